"""PCK: the share of joints found within a part of the body's size (JHMDB).

Source: the evaluation colab of RVM in google-deepmind/representations4d, after Li et al. 2019 (UVC).
A joint counts where its *prediction* is there: that is how the released numbers are made.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, ratio, same_shapes

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def body_size(
  gt: Num[np.ndarray, "T J 2"], visible: Bool[np.ndarray, "T J"]
) -> Float[np.ndarray, " T"]:
  """Returns 0.6 times the diagonal of the box around the visible joints; 0 where there is none."""
  points = np.asarray(gt, np.float64)
  mask = visible[..., None]
  low = np.where(mask, points, np.inf).min(axis=1)
  high = np.where(mask, points, -np.inf).max(axis=1)
  some = np.asarray(visible.any(axis=1))
  extent = np.where(some[:, None], high, 0.0) - np.where(some[:, None], low, 0.0)
  return 0.6 * np.sqrt(np.sum(np.square(extent), axis=-1))


def pck(
  gt: Sequence[Num[np.ndarray, "_ J 2"]],
  pred: Sequence[Num[np.ndarray, "_ J 2"]],
  visible: Sequence[Bool[np.ndarray, "_ J"]],
  threshold: float,
) -> Float[np.ndarray, " J"]:
  """Returns for each joint the percentage found, over all frames of all clips but each first.

  The data set's number is the mean over joints. A joint that is never visible is NaN.

  Args:
    gt: (x, y) of every joint, one array `[T, J, 2]` per clip.
    pred: As `gt`.
    visible: Mask of the joints that count.
    threshold: Largest distance, in body sizes.
  """
  found, counted = [], []
  for truth, predicted, mask in zip(gt, pred, visible, strict=True):
    same_shapes("pck", gt=truth, pred=predicted)
    distance = np.sqrt(np.sum(np.square(predicted.astype(np.float64) - truth), axis=-1))
    relative = ratio(distance, body_size(truth, mask)[:, None])
    found.append(((relative <= threshold) & mask)[1:].sum(axis=0))
    counted.append(mask[1:].sum(axis=0))
  return 100 * ratio(np.sum(found, axis=0), np.sum(counted, axis=0))


def _score(gt: np.ndarray, pred: np.ndarray, visible: np.ndarray) -> dict[str, float]:
  clips = (list(gt), list(pred), list(visible))
  return {f"pck_{k}": float(np.mean(pck(*clips, threshold=k))) for k in THRESHOLDS}


def _example(rng: np.random.Generator) -> Arrays:
  gt = rng.uniform(0, 100, (2, 6, 15, 2))
  return {
    "gt": gt,
    "pred": gt + rng.normal(0, 12, gt.shape),
    "visible": rng.uniform(size=(2, 6, 15)) < 0.9,
  }


METRIC = Metric(
  name="pck",
  score=_score,
  best={f"pck_{k}": 100.0 for k in THRESHOLDS},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["gt"]},
)
