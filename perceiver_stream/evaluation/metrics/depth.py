"""Depth: AbsRel and its relatives, under every usual alignment.

Source: Eigen et al. 2014 (arXiv 1406.2283); alignments as MiDaS, Ranftl et al. 2020.
"""

import numpy as np
from jaxtyping import Bool, Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, ratio, same_shapes

KEYS: tuple[str, ...] = (
  "abs_rel",
  "sq_rel",
  "rmse",
  "rmse_log",
  "log10",
  "delta1",
  "delta2",
  "delta3",
)
ALIGNMENTS = ("none", "median", "scale_lsq", "scale_shift", "scale_shift_disparity")
RANGE = (1e-3, 10.0)  # metres


def scores(
  gt: Num[np.ndarray, "B H W"],
  pred: Num[np.ndarray, "B H W"],
  mask: Bool[np.ndarray, "B H W"] | None = None,
  depth_range: tuple[float, float] = RANGE,
  alignment: str = "none",
) -> tuple[Float[np.ndarray, "B 8"], Float[np.ndarray, "B 2"]]:
  """Returns the numbers of each image, columns `KEYS`, and the scale and shift applied.

  Pixels count if the mask is set and the truth is strictly inside the range; the aligned
  prediction is clipped to it. An image without such a pixel is NaN; the data set's value is the
  mean over the others.

  Args:
    gt: Metres.
    pred: Metres, or whatever the alignment makes metres.
    mask: True where the truth is known; None is everywhere.
    depth_range: Nearest and farthest.
    alignment: Of each image: none; median of the truth over that of the prediction; least
      squares in depth by a scale, or scale and shift; or scale and shift in 1 / depth.
  """
  same_shapes("depth", gt=gt, pred=pred)
  if alignment not in ALIGNMENTS:
    raise ValueError(f"depth: alignment {alignment!r} is not one of {ALIGNMENTS}.")
  mask = np.ones(gt.shape, bool) if mask is None else mask
  low, high = depth_range
  rows, applied = [], []
  for truth, predicted, known in zip(gt, pred, mask, strict=True):
    valid = known & (truth > low) & (truth < high)
    truth, predicted = truth[valid].astype(np.float64), predicted[valid].astype(np.float64)
    if not truth.size:
      rows.append([np.nan] * len(KEYS))
      applied.append([np.nan, np.nan])
      continue
    predicted, scale_and_shift = _align(truth, predicted, depth_range, alignment)
    rows.append(_numbers(truth, np.clip(predicted, low, high)))
    applied.append(scale_and_shift)
  return np.asarray(rows), np.asarray(applied)


def pooled(
  gt: Num[np.ndarray, "B H W"], pred: Num[np.ndarray, "B H W"], mask: Bool[np.ndarray, "B H W"]
) -> dict[str, float]:
  """Returns AbsRel and delta1 over all masked pixels at once, without a range, as kauldron has it.

  Source: google-research/kauldron:kauldron/contrib/metrics/depth_estimation.py: a truth of 0 counts
  as 1e-6, and a ratio of exactly 1.25 is within.
  """
  truth, predicted = gt[mask].astype(np.float64), pred[mask].astype(np.float64)
  positive = np.maximum(predicted, 0.0)
  worse = np.maximum(ratio(truth, positive + 1e-6), ratio(positive, truth + 1e-6))
  return {
    "abs_rel": float(nanmean(ratio(np.abs(predicted - truth), truth + 1e-6))),
    "delta1": float(nanmean(np.where(np.isnan(worse), np.nan, worse < 1.25))),
  }


def _align(
  gt: np.ndarray, pred: np.ndarray, depth_range: tuple[float, float], alignment: str
) -> tuple[np.ndarray, tuple[float, float]]:
  low, high = depth_range
  if alignment == "median":
    scale, shift = float(ratio(np.median(gt), np.median(pred))), 0.0
  elif alignment == "scale_lsq":
    scale, shift = float(ratio(np.sum(gt * pred), np.sum(pred**2))), 0.0
  elif alignment == "scale_shift":
    scale, shift = _least_squares(pred, gt)
  elif alignment == "scale_shift_disparity":
    inverse = 1 / np.maximum(pred, low)
    scale, shift = _least_squares(inverse, 1 / gt)
    return 1 / np.maximum(scale * inverse + shift, 1 / high), (scale, shift)
  else:
    scale, shift = 1.0, 0.0
  return scale * pred + shift, (scale, shift)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
  """Returns the scale and shift of x nearest to y; the smallest such where many are."""
  design = np.stack([x, np.ones_like(x)], axis=1)
  scale, shift = np.linalg.lstsq(design, y, rcond=None)[0]
  return float(scale), float(shift)


def _numbers(gt: np.ndarray, pred: np.ndarray) -> list[float]:
  off, logs = pred - gt, np.log(pred) - np.log(gt)
  worse = np.maximum(pred / gt, gt / pred)
  values = [
    np.mean(np.abs(off) / gt),
    np.mean(off**2 / gt),
    np.sqrt(np.mean(off**2)),
    np.sqrt(np.mean(logs**2)),
    np.mean(np.abs(logs)) / np.log(10),
    *(np.mean(worse < 1.25**i) for i in (1, 2, 3)),
  ]
  return [float(value) for value in values]


def _score(**arrays: np.ndarray) -> dict[str, float]:
  table, _ = scores(**arrays)  # type: ignore[arg-type]
  return dict(zip(KEYS, map(float, nanmean(table, axis=0)), strict=True))


def _example(rng: np.random.Generator) -> Arrays:
  gt = rng.uniform(1, 9, (3, 8, 10))
  return {"gt": gt, "pred": gt * rng.uniform(0.5, 1.8, gt.shape)}


METRIC = Metric(
  name="depth",
  score=_score,
  best={key: float(i >= 5) for i, key in enumerate(KEYS)},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["gt"]},
)
