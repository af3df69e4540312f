"""Mean intersection over union of classes, from one confusion matrix over a data set (VIP).

Source: the evaluation colab of RVM in google-deepmind/representations4d.
"""

import numpy as np
from jaxtyping import Float, Integer

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, ratio, same_shapes


def confusion(
  gt: Integer[np.ndarray, "*n"], pred: Integer[np.ndarray, "*n"], num_classes: int
) -> Float[np.ndarray, "C C"]:
  """Returns the number of pixels of each true class (row) by predicted class (column).

  Pixels whose true class is not one of `num_classes` are left out; matrices of clips add up.

  Raises:
    ValueError: A prediction is not one of the classes.
  """
  same_shapes("confusion", gt=gt, pred=pred)
  known = (gt >= 0) & (gt < num_classes)
  truth, predicted = gt[known].astype(np.int64), pred[known].astype(np.int64)
  if predicted.size and (predicted.min() < 0 or predicted.max() >= num_classes):
    raise ValueError(
      f"confusion: predictions from {predicted.min()} to {predicted.max()} for {num_classes} classes, "
      f"expected 0 to {num_classes - 1}."
    )
  counts = np.bincount(num_classes * truth + predicted, minlength=num_classes**2)
  return counts.reshape(num_classes, num_classes).astype(np.float64)


def iou_per_class(matrix: Float[np.ndarray, "C C"]) -> Float[np.ndarray, " C"]:
  """Returns the intersection over union of each class; NaN where it neither is nor is predicted."""
  right = np.diag(matrix)
  return ratio(right, matrix.sum(axis=1) + matrix.sum(axis=0) - right)


def mean_iou(matrix: Float[np.ndarray, "C C"]) -> float:
  """Returns the mean over the classes that occur."""
  return float(nanmean(iou_per_class(matrix)))


def _score(gt: np.ndarray, pred: np.ndarray) -> dict[str, float]:
  return {"miou": mean_iou(confusion(gt, pred, int(max(gt.max(), pred.max())) + 1))}


def _example(rng: np.random.Generator) -> Arrays:
  gt = rng.integers(0, 5, (3, 8, 10))
  return {"gt": gt, "pred": np.where(rng.uniform(size=gt.shape) < 0.6, gt, 1)}


METRIC = Metric(
  name="miou",
  score=_score,
  best={"miou": 1.0},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["gt"]},
)
