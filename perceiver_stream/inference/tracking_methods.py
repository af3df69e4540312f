"""Read-out trackers as methods of `evaluation.clips` and `evaluation.scoring`."""

import numpy as np
from jaxtyping import PyTree

from perceiver_stream.evaluation.clips import Method
from perceiver_stream.evaluation.metrics import boxes
from perceiver_stream.evaluation.queries import check_queries
from perceiver_stream.evaluation.scoring import BoxMethod
from perceiver_stream.inference.tracking import (
  CHUNK,
  FrameTracker,
  TrackerFactory,
  TrackerRunner,
  track_points,
)
from perceiver_stream.training.objectives.point_tracking import TrackerLearner


def as_method(
  watched: TrackerLearner, params: PyTree, *, both_ways: bool = False, chunk: int = CHUNK
) -> Method:
  """Returns a point tracker as a method of `evaluation.clips`, for models that read pixels.

  The model observes each clip from its initial state, `chunk` ticks at a time, so that clips of any
  length use one program; see `TrackerRunner`.

  Args:
    watched: The frozen model and the tracker.
    params: Of the tracker.
    both_ways: Track frames before a query too, on the clip in reverse.
    chunk: Ticks at a time; the last chunk is padded.
  """

  return method_of(lambda queries: track_points(watched, params, queries, chunk), both_ways, chunk)


def method_of(start: TrackerFactory, both_ways: bool = False, chunk: int = CHUNK) -> Method:
  """Returns any tracker of points as a method of `evaluation.clips`; see `as_method`.

  Before its query a point stands still and hidden, unless `both_ways`.
  """

  def follow(frames: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tracks, visible = _followed(start(queries), frames, chunk)
    return tracks, ~visible

  def method(frames: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num = len(frames)
    queries = check_queries(frames, queries, "point tracker")
    tracks, hidden = follow(frames, queries)
    before = np.arange(num) < queries[:, :1]
    if both_ways:
      earlier = follow(frames[::-1], queries * (-1, 1, 1) + (num - 1, 0, 0))
      earlier, unseen = (x[:, ::-1] for x in earlier)
    else:
      earlier, unseen = queries[:, None, :0:-1], True
    return np.where(before[..., None], earlier, tracks), np.where(before, unseen, hidden)

  return method


def as_box_method(watched: TrackerLearner, params: PyTree, chunk: int = CHUNK) -> BoxMethod:
  """Returns a box tracker as a method of `scoring.boxes`; boxes are static before the query."""

  def method(frames: np.ndarray, queries: np.ndarray) -> np.ndarray:
    watcher = TrackerRunner(watched, params, queries[:, 0], boxes.middles_of(queries[:, 1:]), chunk)
    found, _ = _followed(watcher, frames, chunk)
    before = np.arange(len(frames)) < queries[:, :1]
    return np.where(before[..., None], queries[:, None, 1:], boxes.corners_of(found))

  return method


def _followed(
  follow: FrameTracker, frames: np.ndarray, chunk: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns positions and visibility in a whole clip."""
  chunks = [follow(frames[at : at + chunk]) for at in range(0, len(frames), chunk)]
  tracks, visible, _ = (np.concatenate(x, axis=1) for x in zip(*chunks, strict=True))
  return tracks.astype(np.float64), visible
