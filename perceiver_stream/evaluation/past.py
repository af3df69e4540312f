"""The newest observations of a stream, by the tick at which each was made."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped

_NEVER = -(2**60)


class Past:
  """A ring buffer of observations; arrays of fixed shapes, so that it can be stored in a checkpoint.

  Attributes:
    tick: The newest tick, counted from 0; -1 before the first.

  >>> past = Past(3, (), np.float32)
  >>> for value in (5.0, 6.0, 7.0):
  ...   past.add(np.array(value))
  >>> past.newest(1), float(past[1]), past.last(2, 1).tolist()
  (1, 6.0, [5.0, 6.0])
  """

  def __init__(self, slots: int, shape: Sequence[int], dtype: type):
    """Makes it for `slots` observations of one shape and dtype."""
    self._values = np.zeros((slots, *shape), dtype)
    self._ticks = np.full(slots, _NEVER)  # when the value in each slot was observed
    self.tick = -1
    self._start = 0  # when the recording began

  def add(self, value: Shaped[np.ndarray, "..."] | None, *, is_first: bool = False) -> None:
    """Takes in the next tick; None where nothing was observed."""
    self.tick += 1
    self._start = self.tick if is_first else self._start
    if value is not None:
      slot = int(np.argmin(self._ticks))
      self._values[slot], self._ticks[slot] = value, self.tick

  def newest(self, tick: int) -> int | None:
    """Returns when the newest observation at `tick` or before was made, in this recording."""
    known = self._ticks[self._known(tick)]
    return int(known.max()) if known.size else None

  def last(self, num: int, tick: int) -> Shaped[np.ndarray, "N ..."]:
    """Returns the last `num` observations of this recording up to `tick`, oldest first."""
    slots = np.flatnonzero(self._known(tick))
    return self._values[slots[np.argsort(self._ticks[slots])][-num:]]

  def __getitem__(self, tick: int) -> Shaped[np.ndarray, "..."]:
    """Returns the observation of a tick that `newest` returned."""
    return np.asarray(self._values[int(np.argmax(self._ticks == tick))])

  def state(self) -> dict[str, np.ndarray]:
    """Returns copies of all that is remembered."""
    counters = np.asarray([self.tick, self._start])
    return {"values": self._values.copy(), "ticks": self._ticks.copy(), "counters": counters}

  def restore(self, state: Mapping[str, np.ndarray]) -> None:
    """Restores a result of `state`."""
    self._values[:], self._ticks[:] = state["values"], state["ticks"]
    self.tick, self._start = map(int, state["counters"])

  def _known(self, tick: int) -> np.ndarray:
    """Returns the mask of slots with an observation of this recording up to `tick`."""
    return (self._ticks >= self._start) & (self._ticks <= tick)
