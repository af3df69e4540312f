"""Memory of the raw input of a model: the last two observations and a slow average.

A memory has no parameters. It is part of the state and is updated at every tick. Ticks without an
observation leave it unchanged, and the start of a recording resets it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from perceiver_stream.nn import where_rows


class Memory(NamedTuple):
  """The remembered input of one modality.

  Attributes:
    last: The newest valid observation, `[B, *shape]`, float32.
    previous: The valid observation before it; equals `last` after the first.
    slow: Average of the observations in the modality's prediction space, `[B, ...]`: a running mean
      for the first `slow_ticks` observations, then an exponential moving average.
    count: Number of observations since the last reset, `[B]`; stops at 2³⁰.
  """

  last: Num[Array, "B ..."]
  previous: Num[Array, "B ..."]
  slow: Float[Array, "B ..."]
  count: Int[Array, " B"]

  @property
  def seen(self) -> Bool[Array, "*T B"]:
    """True if there has been an observation since the last reset; also for stacked states."""
    return self.count > 0


def initial_memory(last: Num[Array, "B ..."], slow: Float[Array, "B ..."]) -> Memory:
  """Returns an empty memory with the shapes and dtypes of the two arrays."""
  zeros = jnp.zeros_like(last)
  return Memory(zeros, zeros, jnp.zeros_like(slow), jnp.zeros(last.shape[0], jnp.int32))


def remember(
  memory: Memory,
  value: Num[Array, "B ..."],
  slow_value: Float[Array, "B ..."],
  valid: Bool[Array, " B"],
  is_first: Bool[Array, " B"],
  slow_ticks: float,
) -> Memory:
  """Returns the memory after one tick.

  Args:
    memory: Memory before the tick.
    value: The observation; rows that are not valid are ignored, even if they contain NaN.
    slow_value: The observation in the prediction space.
    valid: Rows that were observed.
    is_first: Rows in which a new recording starts at this tick; they are reset.
    slow_ticks: Time constant of the slow average, in observed ticks; the first `slow_ticks`
      observations are averaged with equal weights.
  """
  blank = initial_memory(memory.last, memory.slow)
  memory = jax.tree.map(lambda new, old: where_rows(is_first, new, old), blank, memory)
  again = valid & memory.seen
  count = jnp.minimum(memory.count + valid.astype(jnp.int32), 2**30)
  rate = jnp.maximum(1.0 / slow_ticks, 1.0 / jnp.maximum(count, 1).astype(jnp.float32))
  rate = rate.reshape((-1,) + (1,) * (memory.slow.ndim - 1))
  averaged = memory.slow + jnp.broadcast_to(rate, memory.slow.shape) * (slow_value - memory.slow)
  return Memory(
    last=where_rows(valid, value, memory.last),
    previous=where_rows(again, memory.last, where_rows(valid, value, memory.previous)),
    slow=where_rows(again, averaged, where_rows(valid, slow_value, memory.slow)),
    count=count,
  )
