"""The bounded buffer between a live source and the model, with its rules for when it is full."""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np

NEWEST, WAIT, EVERY = POLICIES = ("newest", "wait", "every")


class LiveTick(NamedTuple):
  """A tick that waits for the model.

  Attributes:
    values: Arrays and their validity, by modality.
    is_first: Whether a gap is before it.
    time: Seconds on the source's clock.
    image: Number of its image among those of the source; an image may be in several ticks.
    arrived_s: Time of the system's clock at which the image came, or should have come where images come
      later and later; s since 1970.
  """

  values: Mapping[str, tuple[np.ndarray, bool]]
  is_first: bool
  time: Fraction
  image: int
  arrived_s: float = math.nan


class EndOfSource(Exception):
  """The source is over; its text is the reason."""


class Buffer:
  """Passes ticks from one thread to another."""

  def __init__(self, when_faster: str, every: int, size: int):
    """Makes an empty one.

    Args:
      when_faster: `"newest"` keeps the newest tick alone; `"wait"` makes the source wait while
        `size` ticks are kept; `"every"` takes one tick of `every`, and drops the oldest of `size`.
      every: See there.
      size: See there.
    """
    self._when_faster, self._every = when_faster, every if when_faster == EVERY else 1
    self._size = 1 if when_faster == NEWEST else size
    self._kept: deque[LiveTick] = deque()
    self._changed = threading.Condition()
    self._end: str | None = None
    self._number = -1
    self._put, self._given = _Distinct(), _Distinct()
    self._discarded = 0  # images that waited when the buffer was reopened

  @property
  def dropped(self) -> int:
    """Images that came and were not given, because newer ones came first."""
    with self._changed:
      return self._put.count - self._given.count - self._discarded - self.waiting

  @property
  def waiting(self) -> int:
    """Images that are kept and were not given yet."""
    with self._changed:
      return len({tick.image for tick in self._kept} - {self._given.newest})

  def wait_for_room(self, timeout_s: float | None = None) -> bool:
    """Waits, with `"wait"`, while the buffer is full; returns False if it is closed.

    Raises:
      TimeoutError: It was full for `timeout_s`; None waits until there is room.
    """
    with self._changed:
      if self._when_faster == WAIT and not self._changed.wait_for(self._has_room, timeout_s):
        raise TimeoutError
      return self._end is None

  def put(self, tick: LiveTick) -> bool:
    """Adds a tick, with `"wait"` once there is room; returns False if the buffer is closed."""
    with self._changed:
      if not self.wait_for_room():
        return False
      self._put.note(tick.image)
      self._number = 0 if tick.is_first else self._number + 1
      if self._number % self._every:
        return True
      while len(self._kept) >= self._size:
        tick = self._drop_oldest(tick)
      self._kept.append(tick)
      self._changed.notify_all()
      return True

  def _has_room(self) -> bool:
    return self._end is not None or len(self._kept) < self._size

  def _drop_oldest(self, newest: LiveTick) -> LiveTick:
    """Drops the oldest tick, and returns the newest, first where nothing is left before it."""
    oldest = self._kept.popleft()
    if not oldest.is_first:
      return newest
    if not self._kept:
      return newest._replace(is_first=True)
    self._kept[0] = self._kept[0]._replace(is_first=True)
    return newest

  def take(self, timeout_s: float) -> LiveTick | None:
    """Returns the oldest tick kept, or None if none came for `timeout_s`.

    Raises:
      EndOfSource: The buffer is closed, and empty.
    """
    with self._changed:
      self._changed.wait_for(lambda: self._kept or self._end is not None, timeout_s)
      if self._kept:
        tick = self._kept.popleft()
        self._given.note(tick.image)
        self._changed.notify_all()
        return tick
      if self._end is not None:
        raise EndOfSource(self._end)
      return None

  def close(self, reason: str) -> None:
    """Refuses further ticks; those kept can still be taken."""
    with self._changed:
      self._end = reason if self._end is None else self._end
      self._changed.notify_all()

  def reopen(self) -> None:
    """Empties the buffer, and takes ticks again; what waited was not dropped."""
    with self._changed:
      self._discarded += self.waiting
      self._kept.clear()
      self._end, self._number = None, -1


class _Distinct:
  """Counts the different ones among numbers that never decrease."""

  def __init__(self) -> None:
    self.count, self.newest = 0, -1

  def note(self, number: int) -> None:
    """Counts a number."""
    self.count += number != self.newest
    self.newest = number


class Pulse:
  """The time since something last happened, read from another thread."""

  def __init__(self) -> None:
    self.beat()

  def beat(self) -> None:
    """Notes that something happened."""
    self._at = time.monotonic()

  def silent_s(self) -> float:
    """Returns the seconds since."""
    return time.monotonic() - self._at
