"""Points of a page that are tracked in the images: for models that have no tracker of their own."""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream.evaluation.trackers import TRACKERS
from perceiver_stream.evaluation.trackers_online import OnlineTracker
from perceiver_stream.types import IS_FIRST, valid_key

KEPT = 50  # images, in which a point can still be started


class Points(NamedTuple):
  """Positions in the newest image, (x, y) in [0, 1]; NaN where there is none.

  Attributes:
    position: Of points or latents, `[N, 2]`.
    visible: `[N]`, True where they count as visible.
  """

  position: Any
  visible: Any


class PointsInImages:
  """Tracks points by optical flow, corrected by the image around each where it was started."""

  def __init__(self, num_slots: int):
    """Starts with all slots free."""
    self._num_slots = num_slots
    self._frames: deque[np.ndarray] = deque(maxlen=KEPT)  # of the newest ticks
    self.reset()

  def reset(self) -> None:
    """Drops the points and the images."""
    self._frames.clear()
    self._trackers: dict[int, OnlineTracker] = {}
    self._started: dict[int, tuple[float, float, int]] = {}
    self._newest = self._nowhere()

  def start(self, slot: int, x: float, y: float, ago: int = 0) -> None:
    """Starts to track a point, from the image in which it was chosen.

    Args:
      slot: Of the point.
      x: Position in [0, 1] of that image.
      y: Likewise.
      ago: Ticks from that image to the newest; an image that is no longer kept is replaced by the
        oldest one.
    """
    self._clear(slot)
    self._started[slot] = x, y, ago

  def stop(self, slot: int) -> None:
    """Stops to track a point."""
    self._started.pop(slot, None)
    self._clear(slot)

  def observe(self, tick: Mapping[str, np.ndarray]) -> Points:
    """Returns the points after a tick `[1, ...]`; without a valid image they stay."""
    if np.any(tick.get(IS_FIRST, False)):
      self._frames.clear()
    if "pixels" in tick and np.all(tick.get(valid_key("pixels"), True)):
      self._frames.append(np.asarray(tick["pixels"][0], np.uint8))
      self._newest = self._track()
    elif self._frames:
      self._frames.append(self._frames[-1])
      self._started = {slot: (x, y, ago + 1) for slot, (x, y, ago) in self._started.items()}
    return self._newest

  def _clear(self, slot: int) -> None:
    """Forgets the tracker of a slot, and its position, in copies: others may read the old arrays."""
    self._trackers.pop(slot, None)
    self._newest = Points(*(np.copy(x) for x in self._newest))
    self._newest.position[slot], self._newest.visible[slot] = np.nan, False

  def _track(self) -> Points:
    """Returns the points in the newest image."""
    points, frame = self._nowhere(), self._frames[-1]
    size = np.asarray(frame.shape[1::-1])
    for slot, (x, y, ago) in self._started.items():
      frames = np.stack(list(self._frames)[-ago - 2 :])
      column, row = size * (x, y)
      tracker = OnlineTracker(TRACKERS["lk_template"], np.array([[0, row, column]]))
      if len(frames) > 1:
        tracker(frames[:-1])
      self._trackers[slot] = tracker
    self._started.clear()
    for slot, tracker in self._trackers.items():
      chunk = tracker(frame[None])
      points.position[slot], points.visible[slot] = chunk.tracks[0, 0] / size, chunk.visible[0, 0]
    return points

  def _nowhere(self) -> Points:
    """Returns no points."""
    return Points(np.full((self._num_slots, 2), np.nan), np.zeros(self._num_slots, bool))
