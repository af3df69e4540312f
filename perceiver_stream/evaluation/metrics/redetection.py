"""AJ_RD: how well a point is found again after it was hidden.

Source: TAPNext++ (2026); tapnet:tapnet/tapnextpp/metrics/aj_rd.py. Differs: nothing.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from perceiver_stream.evaluation.metrics import tapvid
from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, ratio, same_shapes

THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of a 256 x 256 image
MIN_DURATIONS = (1, 4, 16, 64, 256)  # frames


class Redetection(NamedTuple):
  """Statistics of the reappearances in a data set.

  Attributes:
    aj_rd: Mean over `MIN_DURATIONS` that have an event; NaN if none has.
    by_duration: Mean over thresholds, for each of `MIN_DURATIONS`.
    by_threshold: Of each of `THRESHOLDS` and `MIN_DURATIONS`.
    events: (video, frame, track) of each reappearance that counts.
    durations: Number of frames for which the point had been hidden.
  """

  aj_rd: float
  by_duration: Float[np.ndarray, " 5"]
  by_threshold: Float[np.ndarray, "5 5"]
  events: Int[np.ndarray, "E 3"]
  durations: Int[np.ndarray, " E"]


def redetection(
  gt_tracks: Num[np.ndarray, "B N T 2"],
  gt_occluded: Bool[np.ndarray, "B N T"],
  pred_tracks: Num[np.ndarray, "B N T 2"],
  pred_occluded: Bool[np.ndarray, "B N T"],
) -> Redetection:
  """Returns the Jaccard from each reappearance to the end of the clip, averaged.

  A reappearance counts if the point had been hidden longer than ever before. A prediction is within
  a threshold if its distance is not above it (TAP-Vid: below it).

  Args:
    gt_tracks: (x, y) in a 256 x 256 raster.
    gt_occluded: True where the point is hidden.
    pred_tracks: As `gt_tracks`.
    pred_occluded: As `gt_occluded`.
  """
  same_shapes("redetection", gt_tracks=gt_tracks, pred_tracks=pred_tracks)
  same_shapes("redetection", gt_occluded=gt_occluded, pred_occluded=pred_occluded)
  visible, predicted = ~np.asarray(gt_occluded, bool), ~np.asarray(pred_occluded, bool)
  events, durations = reappearances(visible)
  jaccard = _jaccard(gt_tracks, pred_tracks, visible, predicted, events)
  table = np.stack([nanmean(jaccard[durations >= d], axis=0) for d in MIN_DURATIONS], axis=1)
  by_duration = nanmean(table, axis=0)
  return Redetection(float(nanmean(by_duration)), by_duration, table, events, durations)


def reappearances(
  visible: Bool[np.ndarray, "B N T"],
) -> tuple[Int[np.ndarray, "E 3"], Int[np.ndarray, " E"]]:
  """Returns (video, frame, track) of the reappearances that count, and the frames hidden before."""
  frames = np.arange(visible.shape[2])
  last_visible = np.maximum.accumulate(np.where(visible, frames, -1), axis=2)
  hidden = np.zeros(visible.shape, int)  # frames hidden just before each
  hidden[..., 1:] = (frames - last_visible)[..., :-1]
  gap = np.where(visible, hidden, 0)
  longest = np.maximum.accumulate(gap, axis=2)
  counts = gap > 0
  counts[..., 1:] &= gap[..., 1:] > longest[..., :-1]
  video, frame, track = np.nonzero(counts.transpose(0, 2, 1))
  return np.stack([video, frame, track], axis=-1), gap[video, track, frame]


def _jaccard(
  gt: np.ndarray, pred: np.ndarray, visible: np.ndarray, predicted: np.ndarray, events: np.ndarray
) -> Float[np.ndarray, "E K"]:
  """Returns the Jaccard of each event at each threshold."""
  video, frame, track = events.T
  after = np.arange(visible.shape[2]) >= frame[:, None]  # [E, T]
  visible, predicted = visible[video, track] & after, predicted[video, track] & after
  distance = np.sqrt(np.sum(np.square(pred - gt), axis=-1))[video, track]
  columns = []
  for threshold in THRESHOLDS:
    within = distance <= threshold
    correct = (within & visible & predicted).sum(axis=1)
    false = (predicted & ~(within & visible)).sum(axis=1)
    columns.append(ratio(correct, visible.sum(axis=1) + false))
  return np.stack(columns, axis=-1)


def _score(**arrays: np.ndarray) -> dict[str, float]:
  result = redetection(**arrays)
  by_duration = dict(zip(MIN_DURATIONS, result.by_duration, strict=True))
  return {"aj_rd": result.aj_rd} | {f"aj_rd_dmin_{d}": float(v) for d, v in by_duration.items()}


def _example(rng: np.random.Generator) -> Arrays:
  return {
    name: value for name, value in tapvid.METRIC.example(rng).items() if name != "query_points"
  }


METRIC = Metric(
  name="redetection",
  score=_score,
  best={"aj_rd": 1.0, "aj_rd_dmin_1": 1.0},
  example=_example,
  perfect=tapvid.METRIC.perfect,
)
