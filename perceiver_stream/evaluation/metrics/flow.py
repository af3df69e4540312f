"""Optical flow: end-point error and outliers.

Source: Butler et al. 2012 (Sintel, pooled pixels), Menze and Geiger 2015 (KITTI, Fl-all);
princeton-vl/RAFT:evaluate.py.
"""

import numpy as np
from jaxtyping import Bool, Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, ratio, same_shapes

KEYS: tuple[str, ...] = (
  "epe_mean_over_images",
  "epe_all_pixels",
  "fl_all_percent",
  "px1",
  "px3",
  "px5",
)
OUTLIER_PX, OUTLIER_SHARE = 3.0, 0.05


def scores(
  gt: Num[np.ndarray, "N H W 2"],
  pred: Num[np.ndarray, "N H W 2"],
  valid: Bool[np.ndarray, "N H W"] | None = None,
) -> dict[str, float]:
  """Returns the numbers `KEYS` of a data set.

  A pixel is an outlier if it is off by more than 3 px and by more than 5 % of the true flow; where
  nothing moved, any error above 3 px is. `px1` and so on are the shares of pixels below that error.

  An image without a valid pixel makes `epe_mean_over_images` NaN, as in the released code; the
  pooled numbers leave it out.

  Args:
    gt: (x, y) in pixels.
    pred: As `gt`.
    valid: True where the truth is known; None is everywhere.
  """
  valid = np.ones(gt.shape[:3], bool) if valid is None else valid
  error, outlier = errors(gt, pred)
  per_image = _per_image(error, outlier, valid)
  error, outlier = error[valid], outlier[valid]
  return {
    "epe_mean_over_images": float(ratio(per_image[:, 0].sum(), len(per_image))),
    "epe_all_pixels": float(nanmean(error)),
    "fl_all_percent": 100 * float(nanmean(outlier)),
  } | {f"px{k}": float(nanmean(error < k)) for k in (1, 3, 5)}


def per_image_scores(
  gt: Num[np.ndarray, "N H W 2"],
  pred: Num[np.ndarray, "N H W 2"],
  valid: Bool[np.ndarray, "N H W"],
) -> Float[np.ndarray, "N 2"]:
  """Returns the mean end-point error and the percentage of outliers of each image."""
  return _per_image(*errors(gt, pred), valid)


def _per_image(error: np.ndarray, outlier: np.ndarray, valid: np.ndarray) -> np.ndarray:
  count = valid.sum(axis=(1, 2))
  epe = ratio(np.where(valid, error, 0.0).sum(axis=(1, 2)), count)
  return np.stack([epe, 100 * ratio((outlier & valid).sum(axis=(1, 2)), count)], axis=-1)


def errors(
  gt: Num[np.ndarray, "*n 2"], pred: Num[np.ndarray, "*n 2"]
) -> tuple[Float[np.ndarray, "*n"], Bool[np.ndarray, "*n"]]:
  """Returns the end-point error of each pixel, and whether it is an outlier."""
  same_shapes("flow", gt=gt, pred=pred)
  gt, pred = np.asarray(gt, np.float64), np.asarray(pred, np.float64)
  error, length = (np.sqrt(x[..., 0] ** 2 + x[..., 1] ** 2) for x in (pred - gt, gt))
  return error, (error > OUTLIER_PX) & (error > OUTLIER_SHARE * length)


def _example(rng: np.random.Generator) -> Arrays:
  gt = rng.normal(0, 6, (3, 8, 10, 2))
  return {"gt": gt, "pred": gt + rng.normal(0, 3, gt.shape)}


METRIC = Metric(
  name="flow",
  score=scores,
  best={key: float(i >= 3) for i, key in enumerate(KEYS)},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["gt"]},
)
