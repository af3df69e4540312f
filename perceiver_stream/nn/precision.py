"""The dtype policy: parameters in float32, computation in the dtype of the input.

Every layer of `nn` reads its parameters in float32 and casts them to the dtype of its input, so one
cast of a model's inputs sets the dtype of the whole computation. Norms, softmax and losses always
use float32.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


@dataclass(kw_only=True)
class Precision:
  """Dtype of the computation.

  Attributes:
    compute: `"float32"`, `"bfloat16"` or `"float16"`; parameters and states stay float32.
  """

  compute: str = "float32"

  def validate(self) -> None:
    """Checks the fields. Raises ValueError naming the valid dtypes."""
    if self.compute not in _DTYPES:
      raise ValueError(
        f"Precision: compute dtype {self.compute!r} is unknown; use one of {sorted(_DTYPES)}."
      )

  def cast(self, x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Returns `x` in the compute dtype; integers and booleans are converted too."""
    return jnp.asarray(x, _DTYPES[self.compute])


def broadcast(vector: Shaped[Array, " C"], like: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
  """Returns a per-channel vector, in the dtype and shape of `like` (channels last)."""
  return jax.lax.broadcast_in_dim(vector.astype(like.dtype), like.shape, (like.ndim - 1,))
