"""What a model keeps of its raw input: the last two observations and a slow average.

A memory has no parameters. It belongs to the state, is updated tick by tick, holds its values
through ticks without an observation, and starts afresh where a recording starts.
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
    slow: Average of the observations in the modality's prediction space, `[B, ...]`: of all since
      the last reset while they are few, then exponential.
    count: How many there have been since the last reset, `[B]`; stops at 2³⁰.
  """

  last: Num[Array, "B ..."]
  previous: Num[Array, "B ..."]
  slow: Float[Array, "B ..."]
  count: Int[Array, " B"]

  @property
  def seen(self) -> Bool[Array, "*T B"]:
    """Returns whether there has been an observation since the last reset; also of stacked states."""
    return self.count > 0


def initial_memory(last: Num[Array, "B ..."], slow: Float[Array, "B ..."]) -> Memory:
  """Returns a memory that has seen nothing, of the shapes and dtypes of the two arrays."""
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
    memory: Before the tick.
    value: The observation; whatever stands in rows that are not valid is ignored, NaN included.
    slow_value: The observation in the prediction space.
    valid: Rows that were observed.
    is_first: Rows in which a new recording starts at this tick: what was before is forgotten.
    slow_ticks: Time constant of the slow average, in observed ticks; until there were so many, it
      is the plain mean.
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
