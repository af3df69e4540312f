"""What MooG's recurrence reads and tells at one tick."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn import select


class Tick(NamedTuple):
  """What the recurrence reads at one tick.

  Attributes:
    tokens: Of the frame, `[B, N, C]`.
    is_first: `[B]`; True resets the row to `start` before the tick.
    start: State of a reset row, `[B, L, D]`.
    detach: `[B]`; True stops the gradient into the past.
    valid: `[B]`; False where there was no frame: the prediction is kept.
    targets: Sampled pixels of the frame, `[B, Q, K]`, and
    positions: features of where they are, `[B, Q, P]`: for the loss gradient only.
  """

  tokens: Float[Array, "B N C"]
  is_first: Bool[Array, " B"] | None = None
  start: Float[Array, "B L D"] | None = None
  detach: Bool[Array, " B"] | None = None
  valid: Bool[Array, " B"] | None = None
  targets: Float[Array, "B Q K"] | None = None
  positions: Float[Array, "B Q P"] | None = None


class Step(NamedTuple):
  """States of one tick, `[B, L, D]`: before it, what was predicted, and after the frame."""

  normed: Float[Array, "B L D"]
  predicted: Float[Array, "B L D"]
  corrected: Float[Array, "B L D"]


def reset(inputs: Tick, state: Array) -> Array:
  """Returns the state with rows reset where a recording starts, cut off where asked."""
  if inputs.is_first is not None and inputs.start is not None:
    state = select(inputs.is_first, inputs.start, state)
  if inputs.detach is not None:
    state = select(inputs.detach, jax.lax.stop_gradient(state), state)
  return state
