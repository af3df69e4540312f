"""The trackers without learning on a video that comes piece by piece: forwards, in little memory."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from perceiver_stream.evaluation.trackers import Tracker, TrackingState
from perceiver_stream.utils import moved


class TrackChunk(NamedTuple):
  """Tracks of points in a chunk of video.

  Attributes:
    tracks: (x, y) in raster coordinates of the frames, or of another kind of target; NaN before the
      frame of its query.
    visible: True where it is predicted visible.
    certainty: Probability that the position is about right; NaN from methods without one.
  """

  tracks: Float[np.ndarray, "N T K"]
  visible: Bool[np.ndarray, "N T"]
  certainty: Float[np.ndarray, "N T"]


class OnlineTracker:
  """A tracker of `trackers.TRACKERS` that is fed frames; its answers are those of `track`."""

  def __init__(self, tracker: Tracker, queries: Float[np.ndarray, "N 3"]):
    """Starts before the first frame, with queries as `check_queries` returns them."""
    self._tracker = tracker
    self._last: np.ndarray | None = None
    frame, start = queries[:, 0].astype(int), queries[:, :0:-1] - 0.5
    self._following = TrackingState(tracker.step, frame, start)

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> TrackChunk:
    """Returns the tracks of the points in the next frames."""
    results = [self._track_frame(frame) for frame in frames]
    tracks, visible = (np.stack(x, axis=1) for x in zip(*results, strict=True))
    return TrackChunk(tracks, visible, np.full(visible.shape, np.nan, np.float32))

  def _track_frame(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    following, last = self._following, self._last
    known = (
      self._tracker.prepare(last, frame) if last is not None and following.active.any() else None
    )
    following(frame, known)
    self._last = frame
    places = np.where(following.active[:, None], following.points.positions + 0.5, np.nan)
    return places.astype(np.float32), following.points.visible.copy()


__getattr__ = moved.renamed_names(
  __name__,
  {
    "Online": "evaluation.trackers_online.OnlineTracker",
    "Said": "evaluation.trackers_online.TrackChunk",
  },
)
