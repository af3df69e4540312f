"""Tracks by latents: position, visibility, confidence, age and identity, read from states."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from perceiver_stream.core.following import PositionedState


class LatentPositions(NamedTuple):
  """Tracks of the P latents of a state that have positions.

  Attributes:
    position: (x, y) in [0, 1] of width and height.
    velocity: Change of the position per tick.
    visible: True if the tracked point is visible.
    confidence: Estimated probability in [0, 1] that the position is accurate.
    age: Ticks since the latent started, 1 at its first image; 0 before.
  """

  position: Float[np.ndarray, "*T B P 2"]
  velocity: Float[np.ndarray, "*T B P 2"]
  visible: Bool[np.ndarray, "*T B P"]
  confidence: Float[np.ndarray, "*T B P"]
  age: Int[np.ndarray, "*T B P"]

  def identity(self, first_tick: int = 0) -> Int[np.ndarray, "T B P"]:
    """Returns the number of each track: the same from the start of a latent until its restart.

    It is `start * P + latent`, with the tick at which the latent started, so that later parts of a
    stream continue the numbers of earlier ones; -1 before the first image.

    Args:
      first_tick: Number of the first of the T ticks in the stream.
    """
    ticks = np.arange(first_tick, first_tick + len(self.age)).reshape(-1, 1, 1)
    start = ticks - self.age.astype(np.int64) + 1
    return np.where(self.age > 0, start * self.age.shape[-1] + np.arange(self.age.shape[-1]), -1)


def has_positions(state: PyTree) -> bool:
  """Returns True if latents of a model's state have positions."""
  return isinstance(getattr(state, "latents", None), PositionedState)


def positions(state: PyTree) -> LatentPositions:
  """Returns the positions of the latents of a state, in the order of the latent array.

  Args:
    state: State of a model, or the states of T ticks as `Model.observe` returns them.

  Raises:
    ValueError: The latents of this model have no positions.
  """
  if not has_positions(state):
    raise ValueError(
      f"positions: a {type(state).__name__} whose latents have no positions; use a model with a "
      f"PositionedConfig, such as stream_perceiver/tiny_positions."
    )
  known = state.latents
  return LatentPositions(
    position=(np.asarray(known.position)[..., ::-1] + 1) / 2,
    velocity=np.asarray(known.velocity)[..., ::-1] / 2,
    visible=np.asarray(known.visible) > 0,
    confidence=1 / (1 + np.exp(-np.asarray(known.confidence))),
    age=np.asarray(known.age),
  )
