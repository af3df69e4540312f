"""The trackers without learning on a video that comes piece by piece: forwards, in little memory."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from perceiver_stream.evaluation.trackers import Points, Tracker, patch_around


class Said(NamedTuple):
  """What is said of points in a piece of video.

  Attributes:
    tracks: (x, y) in raster coordinates of the frames; NaN before a point is asked for.
    visible: Whether it is thought to be seen.
    certainty: Probability that the place is about right; NaN from methods that do not say.
  """

  tracks: Float[np.ndarray, "N T 2"]
  visible: Bool[np.ndarray, "N T"]
  certainty: Float[np.ndarray, "N T"]


class Online:
  """A tracker of `trackers.TRACKERS` that is fed frames; its answers are those of `track`."""

  def __init__(self, tracker: Tracker, asked: Float[np.ndarray, "N 3"]):
    """Starts before the first frame, with queries as `check_queries` returns them."""
    self._tracker, self._frame, start = tracker, asked[:, 0].astype(int), asked[:, :0:-1] - 0.5
    self._points = Points(start, np.zeros(len(asked), bool), np.zeros_like(start))
    self._patches: list[np.ndarray | None] = [None] * len(asked)
    self._last: np.ndarray | None = None
    self._tick = 0

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Said:
    """Returns what is said of the points in the next frames."""
    told = [self._told(frame) for frame in frames]
    tracks, visible = (np.stack(x, axis=1) for x in zip(*told, strict=True))
    return Said(tracks, visible, np.full(visible.shape, np.nan, np.float32))

  def _told(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = self._points
    going = np.flatnonzero(self._frame < self._tick)
    if going.size and self._last is not None:
      some = Points(*(x[going] for x in points))
      looks = np.asarray([self._patches[n] for n in going], np.float32)
      known = self._tracker.prepare(self._last, frame)
      moved = self._tracker.step(self._last, frame, some, looks, known)
      for kept, new in zip(points, moved, strict=True):
        kept[going] = new
    for n in np.flatnonzero(self._frame == self._tick):
      self._patches[n] = patch_around(frame, points.positions[n])
      points.visible[n] = True
    started = self._frame <= self._tick
    self._last, self._tick = frame, self._tick + 1
    places = np.where(started[:, None], points.positions + 0.5, np.nan)
    return places.astype(np.float32), points.visible.copy()
