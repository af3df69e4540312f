"""Adjusted Rand index of segmentations, and FG-ARI, which leaves out the true background."""

import numpy as np
from jaxtyping import Float, Int

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, same_shapes


def adjusted_rand_index(truth: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"]) -> float:
  """Returns the agreement of two partitions: 1 if they are equal, 0 in the mean of random ones.

  Two partitions that both have a single part, or both only parts of one element, agree: 1. NaN
  without an element.

  Source: Hubert and Arabie 1985, Comparing Partitions.
  """
  if not len(truth):
    return float("nan")
  _, rows = np.unique(truth, return_inverse=True)
  _, columns = np.unique(predicted, return_inverse=True)
  table = np.zeros((rows.max() + 1, columns.max() + 1))
  np.add.at(table, (rows, columns), 1)
  pairs = lambda x: float(np.sum(x * (x - 1) / 2))  # noqa: E731
  both, ours, theirs = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
  total = len(truth) * (len(truth) - 1) / 2
  expected, most = ours * theirs / max(total, 1), (ours + theirs) / 2
  return 1.0 if most == expected else (both - expected) / (most - expected)


def foreground_ari(
  truth: Int[np.ndarray, "..."],
  predicted: Int[np.ndarray, "..."],
  background: int = 0,
) -> Float[np.ndarray, " B"]:
  """Returns the FG-ARI of each video: that of all its pixels that are not true background.

  A video is one partition, so that an object has to keep its number over all frames. NaN without an
  object.

  Args:
    truth: Numbers of the objects, `[B, T, H, W]`.
    predicted: Numbers of the predicted segments, of the same shape.
    background: Number of the background in `truth`.

  Raises:
    ValueError: The shapes differ.
  """
  same_shapes("foreground_ari", truth=truth, predicted=predicted)
  found = []
  for true, other in zip(truth, predicted, strict=True):
    kept = true != background
    found.append(adjusted_rand_index(true[kept], other[kept]))
  return np.array(found)


def score(truth: Int[np.ndarray, "..."], predicted: Int[np.ndarray, "..."]) -> dict[str, float]:
  """Returns the mean FG-ARI over videos, `fg_ari`; see `foreground_ari`."""
  return {"fg_ari": float(nanmean(foreground_ari(truth, predicted)))}


def _example(rng: np.random.Generator) -> Arrays:
  truth, predicted = rng.integers(0, 4, (2, 3, 2, 5, 5))
  return {"truth": truth, "predicted": predicted}


METRIC = Metric(
  name="rand_index",
  score=score,
  best={"fg_ari": 1.0},
  example=_example,
  perfect=lambda arrays: arrays | {"predicted": arrays["truth"]},
)
