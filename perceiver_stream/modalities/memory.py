"""What a model keeps of its raw input: the last two observations and a slow average.

A memory has no parameters. It belongs to the state, is updated tick by tick, holds its values
through ticks without an observation, and starts afresh where a recording starts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from perceiver_stream.nn import select


class Memory(NamedTuple):
  """The remembered input of one modality.

  Attributes:
    last: The newest valid observation, `[B, *shape]`, float32.
    previous: The valid observation before it; equals `last` after the first.
    slow: Exponential average of the observations in the modality's prediction space, `[B, ...]`.
    seen: `[B]` bool; whether there has been an observation since the last reset.
  """

  last: Num[Array, "B ..."]
  previous: Num[Array, "B ..."]
  slow: Float[Array, "B ..."]
  seen: Bool[Array, " B"]


def initial_memory(last: Num[Array, "B ..."], slow: Float[Array, "B ..."]) -> Memory:
  """Returns a memory that has seen nothing, of the shapes and dtypes of the two arrays."""
  zeros = jnp.zeros_like(last)
  return Memory(zeros, zeros, jnp.zeros_like(slow), jnp.zeros(last.shape[0], bool))


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
    slow_ticks: Time constant of the slow average, in observed ticks.
  """
  blank = initial_memory(memory.last, memory.slow)
  memory = jax.tree.map(lambda new, old: select(is_first, new, old), blank, memory)
  again = valid & memory.seen
  rate = 1.0 / slow_ticks
  averaged = memory.slow + rate * (slow_value - memory.slow)
  return Memory(
    last=select(valid, value, memory.last),
    previous=select(again, memory.last, select(valid, value, memory.previous)),
    slow=select(again, averaged, select(valid, slow_value, memory.slow)),
    seen=memory.seen | valid,
  )
