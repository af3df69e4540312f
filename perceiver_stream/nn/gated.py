"""Updates behind a gate that starts closed, so that a trained network is unchanged at the start."""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float


class TanhGate(hk.Module):
  """x + tanh(α) update, with a learned number α that starts at 0.

  New layers of a trained network start as the identity: the gated cross-attention of Flamingo
  (2204.14198), the temporal blocks of LongViViT (2312.07395).
  """

  def __call__(
    self, x: Float[Array, "*shape"], update: Float[Array, "*shape"]
  ) -> Float[Array, "*shape"]:
    """Returns `x` with the gated update, in the dtype of `x`."""
    alpha = hk.get_parameter("alpha", (), jnp.float32, jnp.zeros)
    return x + jnp.tanh(alpha).astype(x.dtype) * update
