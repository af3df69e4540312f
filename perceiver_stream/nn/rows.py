"""Operations per batch row: selection between two arrays, and repetition of a table."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped


def where_rows(
  flags: Bool[Array, "..."], yes: Shaped[Array, "..."] | float, no: Shaped[Array, "..."]
) -> Shaped[Array, "..."]:
  """Returns `yes` where `flags` is True and `no` elsewhere; the reset of every recurrent state.

  Args:
    flags: Booleans with the leading axes of `no`, such as `[B]` or `[B, N]`.
    yes: An array with the shape of `no`, or one number.
    no: `[*flags, ...]`.
  """
  return jnp.where(flags.reshape(flags.shape + (1,) * (no.ndim - flags.ndim)), yes, no)


def repeat_rows(x: Float[Array, "*N F"], batch_size: int) -> Float[Array, "B *N F"]:
  """Returns the same array for every batch row."""
  return jax.lax.broadcast_in_dim(x, (batch_size, *x.shape), tuple(range(1, x.ndim + 1)))
