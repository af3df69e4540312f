"""DAVIS: region similarity J, boundary accuracy F, and their mean.

Source: Perazzi et al. 2016, Pont-Tuset et al. 2017 (arXiv 1704.00675);
davisvideochallenge/davis2017-evaluation:davis2017/metrics.py. Differs: the quarters of the decay are
not cut at frame 255.
"""

import warnings

import numpy as np
from jaxtyping import Bool, Float, Shaped

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, same_shapes

TOLERANCE = 0.008  # of the diagonal


def jaccard(
  gt: Bool[np.ndarray, "*n H W"],
  pred: Bool[np.ndarray, "*n H W"],
  void: Bool[np.ndarray, "*#n H W"] | None = None,
) -> Float[np.ndarray, "*n"]:
  """Returns J, the intersection over the union of each pair of masks; 1 if both are empty.

  Args:
    gt: True masks.
    pred: Predicted masks.
    void: Pixels that do not count.
  """
  same_shapes("jaccard", gt=gt, pred=pred)
  counted = True if void is None else ~void
  both = np.sum(gt & pred & counted, axis=(-2, -1))
  either = np.sum((gt | pred) & counted, axis=(-2, -1))
  return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def boundary_f(
  gt: Bool[np.ndarray, "*n H W"],
  pred: Bool[np.ndarray, "*n H W"],
  void: Bool[np.ndarray, "*#n H W"] | None = None,
  tolerance: float | int = TOLERANCE,
) -> Float[np.ndarray, "*n"]:
  """Returns F: how well the outlines of each pair of masks agree.

  Precision is the share of the predicted outline within a tolerance of the true one, recall the
  reverse, F their harmonic mean. It is 1 where neither has an outline (also two full masks), 0
  where one has.

  Args:
    gt: True masks.
    pred: Predicted masks.
    void: Pixels that do not count: they belong to no object.
    tolerance: Pixels, from 1 on; below, a share of the diagonal, rounded up.
  """
  same_shapes("boundary_f", gt=gt, pred=pred)
  shape = gt.shape[-2:]
  radius = tolerance if tolerance >= 1 else np.ceil(tolerance * np.hypot(*shape))
  counted = ~np.broadcast_to(np.asarray(False) if void is None else void, gt.shape)
  pairs = zip((gt & counted).reshape(-1, *shape), (pred & counted).reshape(-1, *shape), strict=True)
  return np.asarray([_f(a, b, int(radius)) for a, b in pairs], np.float64).reshape(gt.shape[:-2])


def boundary(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
  """Returns the pixels that differ from their right, lower, or lower right neighbour.

  The last row and column only look along the border; the last pixel is none.
  """
  edge = np.zeros_like(mask)
  right, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
  edge[:-1, :-1] = right[:-1] | down[:, :-1] | (mask[1:, 1:] != mask[:-1, :-1])
  edge[-1, :-1] = right[-1]
  edge[:-1, -1] = down[:, -1]
  return edge


def dilate(mask: Bool[np.ndarray, "H W"], radius: int) -> Bool[np.ndarray, "H W"]:
  """Returns the pixels within `radius` of the mask: row by row of the disk x² + y² <= radius²."""
  height, width = mask.shape
  sums = np.cumsum(np.pad(mask, ((0, 0), (radius + 1, radius))), axis=1, dtype=np.int32)
  out = np.zeros_like(mask)
  for shift in range(min(radius, height - 1) + 1):
    reach = int(np.sqrt(radius**2 - shift**2))
    wide = sums[:, radius + reach + 1 :][:, :width] > sums[:, radius - reach :][:, :width]
    out[shift:] |= wide[: height - shift]
    out[: height - shift] |= wide[shift:]
  return out


def statistics(per_frame: Float[np.ndarray, "*n T"]) -> Float[np.ndarray, "*n 3"]:
  """Returns mean, recall (share of frames above 0.5) and decay (first minus last quarter)."""
  num = per_frame.shape[-1]
  cuts = np.round(np.linspace(1, num, 5) + 1e-10).astype(int) - 1
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # all NaN: NaN
    quarters = [np.nanmean(per_frame[..., cuts[i] : cuts[i + 1] + 1], axis=-1) for i in (0, 3)]
    mean = np.nanmean(per_frame, axis=-1)
  recall = np.mean(per_frame > 0.5, axis=-1)
  return np.stack([mean, recall, quarters[0] - quarters[1]], axis=-1)


def objects(
  gt: Shaped[np.ndarray, "T H W"], pred: Shaped[np.ndarray, "T H W"]
) -> dict[str, Float[np.ndarray, "O F"]]:
  """Returns J and F of every object of a clip in every frame but the first and the last.

  Objects are the ids from 1 to the largest in `gt`; one that is absent counts as found in the
  frames where it is not predicted either (J = F = 1), as the released evaluation has it.
  """
  same_shapes("davis.objects", gt=gt, pred=pred)
  ids = np.arange(1, int(gt.max(initial=0)) + 1)[:, None, None, None]
  truth, predicted = gt[1:-1] == ids, pred[1:-1] == ids
  return {"J": jaccard(truth, predicted), "F": boundary_f(truth, predicted)}


def _f(gt: np.ndarray, pred: np.ndarray, radius: int) -> float:
  outlines = boundary(gt), boundary(pred)
  sizes = [int(outline.sum()) for outline in outlines]
  if not all(sizes):
    return float(not any(sizes))
  recall = (outlines[0] & dilate(outlines[1], radius)).sum() / sizes[0]
  precision = (outlines[1] & dilate(outlines[0], radius)).sum() / sizes[1]
  return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _score(gt: np.ndarray, pred: np.ndarray) -> dict[str, float]:
  j, f = float(jaccard(gt, pred).mean()), float(boundary_f(gt, pred).mean())
  return {"J": j, "F": f, "J&F": (j + f) / 2}


def _example(rng: np.random.Generator) -> Arrays:
  y, x = np.mgrid[:24, :30]
  centres = rng.uniform(8, 16, (2, 4, 2, 1, 1))
  inside = lambda c: (y - c[..., 0, :, :]) ** 2 + (x - c[..., 1, :, :]) ** 2 < 36  # noqa: E731
  return {"gt": inside(centres), "pred": inside(centres + rng.normal(0, 4, centres.shape))}


METRIC = Metric(
  name="davis",
  score=_score,
  best={"J": 1.0, "F": 1.0, "J&F": 1.0},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["gt"]},
)
