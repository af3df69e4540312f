"""Choosing between arrays row by row."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped


def select(
  flags: Bool[Array, " B"], yes: Shaped[Array, "B ..."], no: Shaped[Array, "B ..."]
) -> Shaped[Array, "B ..."]:
  """Returns `yes` in the rows where `flags` is True and `no` in the others."""
  shape = (flags.shape[0],) + (1,) * (yes.ndim - 1)
  return jnp.where(jnp.broadcast_to(flags.reshape(shape), yes.shape), yes, no)
