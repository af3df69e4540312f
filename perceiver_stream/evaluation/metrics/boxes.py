"""Boxes: overlap, tracks, and average precision.

Source: COCO (cocodataset/cocoapi) for average precision; box tracks as MooG, 4DS, RVM and the
Perception Test score them: the frames after the query's.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, ratio, same_shapes

COCO_THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
MAX_DETECTIONS = 100  # per image and class
_RECALLS = np.linspace(0, 1, 101)


def corners_of(boxes: Num[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
  """Returns (y1, x1, y2, x2) of boxes (x, y, width, height), x and y those of the middle."""
  x, y, width, height = np.moveaxis(np.asarray(boxes, np.float64), -1, 0)
  return np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=-1)


def middles_of(corners: Num[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
  """Returns (x, y, width, height) of boxes (y1, x1, y2, x2): the inverse of `corners_of`."""
  top, left, bottom, right = np.moveaxis(np.asarray(corners, np.float64), -1, 0)
  return np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=-1)


def around(mask: Bool[np.ndarray, "*n H W"]) -> Float[np.ndarray, "*n 4"]:
  """Returns the boxes (y1, x1, y2, x2) around masks, in [0, 1] of the image; zeros if empty."""
  (top, bottom), (left, right) = (_extent(np.asarray(mask.any(axis=axis))) for axis in (-1, -2))
  boxes = np.stack([top, left, bottom, right], axis=-1)
  return np.where(np.asarray(mask.any(axis=(-2, -1)))[..., None], boxes, 0.0)


def _extent(there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the start of the first True and the end of the last, as shares of the last axis."""
  size = there.shape[-1]
  return there.argmax(axis=-1) / size, (size - there[..., ::-1].argmax(axis=-1)) / size


def area(boxes: Num[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
  """Returns the signed area of boxes given by two corners."""
  boxes = np.asarray(boxes, np.float64)
  return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def intersection(
  first: Num[np.ndarray, "*#n 4"], second: Num[np.ndarray, "*#n 4"]
) -> Float[np.ndarray, "..."]:
  """Returns the area that boxes share, 0 if they do not meet."""
  first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
  low = np.maximum(first[..., :2], second[..., :2])
  high = np.minimum(first[..., 2:], second[..., 2:])
  return np.asarray(np.prod(np.maximum(high - low, 0.0), axis=-1))


def iou(
  first: Num[np.ndarray, "*#n 4"], second: Num[np.ndarray, "*#n 4"], eps: float = 0.0
) -> Float[np.ndarray, "..."]:
  """Returns the intersection over the union of boxes, broadcast against each other.

  A box whose corners are swapped has a negative area, and the formula is applied as it is.

  Args:
    first: Two corners, in any order of axes.
    second: In the same order.
    eps: Added to the union, as some sources do.

  Returns:
    The ratios, broadcast; 0 where both boxes are empty.
  """
  both = intersection(first, second)
  return np.asarray(np.nan_to_num(ratio(both, area(first) + area(second) - both + eps)))


def giou(
  first: Num[np.ndarray, "*#n 4"], second: Num[np.ndarray, "*#n 4"], eps: float = 0.0
) -> Float[np.ndarray, "..."]:
  """Returns the generalised IoU: less the share of the hull that neither box fills.

  Source: Rezatofighi et al. 2019, arXiv 1902.09630.
  """
  low = np.minimum(first[..., :2], second[..., :2])
  high = np.maximum(first[..., 2:], second[..., 2:])
  hull = np.prod(np.maximum(high.astype(np.float64) - low, 0.0), axis=-1)
  union = area(first) + area(second) - intersection(first, second)
  return np.asarray(iou(first, second, eps) - ratio(hull - union, hull + eps))


def track_iou(
  gt: Num[np.ndarray, "B T K 4"],
  pred: Num[np.ndarray, "B T K 4"],
  present: Bool[np.ndarray, "B T K"],
) -> tuple[Float[np.ndarray, "B T K"], Bool[np.ndarray, "B T K"]]:
  """Returns the IoU of every box, and which count: those after the first in which it is there.

  See `track_means`.
  """
  same_shapes("track_iou", gt=gt, pred=pred)
  seen_before = np.cumsum(present, axis=1) - present > 0
  return iou(gt, pred), present & seen_before


def track_means(
  frame_iou: Float[np.ndarray, "B T K"], counted: Bool[np.ndarray, "B T K"]
) -> dict[str, np.ndarray]:
  """Returns the means `per_track` `[B, K]`, `per_video` `[B]`, and three over all.

  `mean_over_videos` is the reported one; tracks and videos in which nothing counts are left out.
  """
  scored = np.where(counted, frame_iou, np.nan)
  per_track = nanmean(scored, axis=1)
  per_video = nanmean(per_track, axis=1)
  return {
    "per_track": per_track,
    "per_video": per_video,
    "mean_over_videos": nanmean(per_video),
    "mean_over_tracks": nanmean(per_track),
    "mean_over_boxes": nanmean(scored),
  }


def average_precision(
  gt: Num[np.ndarray, "N 6"],
  detections: Num[np.ndarray, "M 7"],
  thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> Float[np.ndarray, "C K"]:
  """Returns COCO's average precision of each class in `gt` (in order of id) and IoU threshold.

  The reported AP is the mean over both, AP50 and AP75 of the columns 0.5 and 0.75.

  Args:
    gt: (image, class, x, y, width, height).
    detections: The same and a score.
    thresholds: Of the IoU.
  """
  overlap = lambda a, b: iou(_corners(a[:, None, 2:6]), _corners(b[None, :, 2:6]))  # noqa: E731
  rows = [
    _class_precision(
      gt[gt[:, 1] == kind], detections[detections[:, 1] == kind], overlap, thresholds
    )
    for kind in np.unique(gt[:, 1])
  ]
  return np.asarray(rows, np.float64).reshape(-1, len(thresholds))


def track_average_precision(
  gt_boxes: Num[np.ndarray, "N T 4"],
  gt_present: Bool[np.ndarray, "N T"],
  gt_class: Int[np.ndarray, " N"],
  pred_boxes: Num[np.ndarray, "M T 4"],
  pred_present: Bool[np.ndarray, "M T"],
  pred_class: Int[np.ndarray, " M"],
  pred_score: Num[np.ndarray, " M"],
  thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> tuple[Float[np.ndarray, "C K"], Float[np.ndarray, "M N"]]:
  """Returns the average precision of whole tracks, and the overlap of each pair in space and time.

  Boxes are (x, y, width, height); the overlap sums intersections and unions over frames.
  """
  overlap = volume_iou(pred_boxes, pred_present, gt_boxes, gt_present)
  # As detections in one image, each row holding its own number where a box would be.
  truth = np.stack([np.zeros(len(gt_class)), gt_class, np.arange(len(gt_class))], axis=1)
  found = np.stack([np.zeros(len(pred_class)), pred_class, np.arange(len(pred_class))], axis=1)
  found = np.concatenate([found, np.asarray(pred_score, np.float64)[:, None]], axis=1)
  look_up = lambda a, b: overlap[a[:, 2].astype(int)][:, b[:, 2].astype(int)]  # noqa: E731
  rows = [
    _class_precision(truth[truth[:, 1] == kind], found[found[:, 1] == kind], look_up, thresholds)
    for kind in np.unique(gt_class)
  ]
  return np.asarray(rows, np.float64).reshape(-1, len(thresholds)), overlap


def volume_iou(
  first: Num[np.ndarray, "M T 4"],
  first_present: Bool[np.ndarray, "M T"],
  second: Num[np.ndarray, "N T 4"],
  second_present: Bool[np.ndarray, "N T"],
) -> Float[np.ndarray, "M N"]:
  """Returns the summed intersections over the summed unions of all pairs of tracks."""
  a, b = _corners(first)[:, None], _corners(second)[None]
  areas_a = np.where(first_present, area(a[:, 0]), 0.0)[:, None]
  areas_b = np.where(second_present, area(b[0]), 0.0)[None]
  both = np.where(first_present[:, None] & second_present[None], intersection(a, b), 0.0)
  total = both.sum(axis=-1)
  return np.nan_to_num(ratio(total, areas_a.sum(axis=-1) + areas_b.sum(axis=-1) - total))


def _class_precision(
  gt: np.ndarray,
  found: np.ndarray,
  overlap: Callable[[np.ndarray, np.ndarray], np.ndarray],
  thresholds: Sequence[float],
) -> list[float]:
  """Returns the average precision of one class at each threshold."""
  scores, hits = [], []
  for picture in np.unique(np.concatenate([gt[:, 0], found[:, 0]])):
    mine = found[found[:, 0] == picture]
    mine = mine[np.argsort(-mine[:, -1], kind="stable")][:MAX_DETECTIONS]
    scores.append(mine[:, -1])
    hits.append(_match(overlap(mine, gt[gt[:, 0] == picture]), thresholds))
  order = np.argsort(-np.concatenate(scores), kind="stable")
  right = np.concatenate(hits)[order].cumsum(axis=0)  # [M, K]
  precision = right / np.arange(1, len(order) + 1)[:, None]
  precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
  return [_area_under(right[:, k] / len(gt), precision[:, k]) for k in range(len(thresholds))]


def _match(overlap: np.ndarray, thresholds: Sequence[float]) -> Bool[np.ndarray, "M K"]:
  """Returns the mask of detections (best first) that match a free truth, at each threshold."""
  hits = np.zeros((overlap.shape[0], len(thresholds)), bool)
  for k, threshold in enumerate(thresholds):
    free = np.ones(overlap.shape[1], bool)
    for i, row in enumerate(overlap):
      candidates = np.where(free & (row >= min(threshold, 1 - 1e-10)), row, -1.0)
      if candidates.max(initial=-1.0) >= 0:
        # Of equals the last, as in the source.
        free[len(row) - 1 - int(np.argmax(candidates[::-1]))] = False
        hits[i, k] = True
  return hits


def _area_under(recall: np.ndarray, precision: np.ndarray) -> float:
  at = np.searchsorted(recall, _RECALLS, side="left")
  return float(np.mean(np.append(precision, 0.0)[np.minimum(at, len(precision))]))


def _corners(boxes: np.ndarray) -> np.ndarray:
  """Returns (x, y, x2, y2) of boxes (x, y, width, height)."""
  boxes = np.asarray(boxes, np.float64)
  return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def _score(gt: np.ndarray, pred: np.ndarray, present: np.ndarray) -> dict[str, float]:
  means = track_means(*track_iou(gt, pred, present))
  return {name: float(means[name]) for name in ("mean_over_videos", "mean_over_tracks")}


def _example(rng: np.random.Generator) -> Arrays:
  low = rng.uniform(0, 0.5, (2, 6, 3, 2))
  gt = np.concatenate([low, low + rng.uniform(0.2, 0.5, low.shape)], axis=-1)
  return {
    "gt": gt,
    "pred": gt + rng.normal(0, 0.05, gt.shape),
    "present": rng.uniform(size=(2, 6, 3)) < 0.9,
  }


METRIC = Metric(
  name="boxes",
  score=_score,
  best={"mean_over_videos": 1.0, "mean_over_tracks": 1.0},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["gt"]},
)
