"""Bounded replay memories, as indices, because replay does not depend on learning."""

import numpy as np
from jaxtyping import Int

NOTHING = -1  # in an order: no clip


class Reservoir:
  """A uniform sample of all clips added so far (Vitter 1985, algorithm R)."""

  def __init__(self, capacity: int, rng: np.random.Generator):
    self.capacity, self._rng = capacity, rng
    self._held: list[int] = []
    self._shown = 0

  def add(self, clip: int) -> None:
    """Adds the next clip."""
    self._shown += 1
    if len(self._held) < self.capacity:
      self._held.append(clip)
      return
    place = int(self._rng.integers(self._shown))
    if place < self.capacity:
      self._held[place] = clip

  def clips(self) -> list[int]:
    """Returns the clips in memory."""
    return self._held


class TwoTier:
  """The newest `short` clips, and a reservoir of `long` of the older ones.

  Source: Memory Storyboard (CoLLAs 2025), without its segmentation of the stream.
  """

  def __init__(self, short: int, long: int, rng: np.random.Generator):
    self.capacity = short + long
    self._short, self._newest = short, list[int]()
    self._older = Reservoir(long, rng)

  def add(self, clip: int) -> None:
    """Adds the next clip."""
    self._newest.append(clip)
    if len(self._newest) > self._short:
      self._older.add(self._newest.pop(0))

  def clips(self) -> list[int]:
    """Returns the clips in memory, the older ones first."""
    return self._older.clips() + self._newest


def with_replay(
  order: Int[np.ndarray, " n"], memory: Reservoir | TwoTier, num: int, rng: np.random.Generator
) -> Int[np.ndarray, "n B"]:
  """Returns each clip with `num` from the memory of earlier clips, or `NOTHING` if there is none.

  A clip is added to the memory after its own step.
  """
  rows = np.full((len(order), 1 + num), NOTHING, np.int32)
  for row, clip in zip(rows, order, strict=True):
    row[0] = clip
    if held := memory.clips():
      row[1:] = rng.choice(held, num)
    memory.add(int(clip))
  return rows
