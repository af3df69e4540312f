"""Dropout, and stochastic depth: a residual branch is left out for whole rows."""

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def dropout(x: Float[Array, "B ..."], rate: float, is_training: bool) -> Float[Array, "B ..."]:
  """Returns `x` with a share `rate` of its values set to zero and the others scaled up."""
  return hk.dropout(hk.next_rng_key(), rate, x) if is_training and rate else x


def drop_path(
  x: Float[Array, "B ..."], rate: float, is_training: bool, *, rescale: bool = True
) -> Float[Array, "B ..."]:
  """Returns `x` with a share `rate` of its rows set to zero.

  Args:
    x: Residual branch.
    rate: Probability that a row is dropped.
    is_training: If False, `x` is returned.
    rescale: If True, kept rows are divided by 1 - rate. The released ViViT does not.
  """
  if not (is_training and rate):
    return x
  kept = jax.random.bernoulli(hk.next_rng_key(), 1 - rate, (x.shape[0],))
  kept = kept.reshape(-1, *[1] * (x.ndim - 1))
  return jnp.where(kept, x / (1 - rate) if rescale else x, 0)
