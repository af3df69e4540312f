"""Linear support vector machines on frozen features, by the published protocols; numpy only.

The classifier is that of scikit-learn's `LinearSVC` with its defaults: one against the rest, squared hinge
loss, intercept regularised like a weight. C is that of the protocol, never tuned; splits are given.

Source: Alayrac et al. 2020, arXiv 2006.16228; Recasens et al. 2021, 2103.16559; Miech et al. 2020,
1912.06430, and their released evaluations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

_MAX_STEPS = 100
_TOLERANCE = 1e-8


class Protocol(NamedTuple):
  """A published protocol.

  Attributes:
    c: Price of the loss against the weights.
    scale: Whether features are standardised by the training rows.
  """

  c: float
  scale: bool


PROTOCOLS = {
  "brave": Protocol(1e-4, True),  # HMDB51, UCF101; scores of 10 x 3 crops
  "mmv": Protocol(1e-3, True),  # UCF101; scores of 10 windows
  "mil_nce": Protocol(100.0, False),  # HMDB51; 10 windows, all of them training rows
}


class Split(NamedTuple):
  """Features of a published split.

  Attributes:
    train: Of the windows of each clip; all windows are training rows.
    train_labels: From 0.
    test: Likewise; the scores of a clip's windows are averaged.
    test_labels: From 0.
  """

  train: Num[np.ndarray, "N W D"]
  train_labels: Int[np.ndarray, " N"]
  test: Num[np.ndarray, "M V D"]
  test_labels: Int[np.ndarray, " M"]


class ProbeResult(NamedTuple):
  """Accuracy over splits.

  Attributes:
    accuracies: Of each split.
    mean: Of the splits.
    interval: 95 % of bootstrap means, clips drawn with replacement within each split.
    count: Test clips of all splits.
  """

  accuracies: tuple[float, ...]
  mean: float
  interval: tuple[float, float]
  count: int


def probe(
  splits: Sequence[Split], protocol: Protocol, *, draws: int = 1000, seed: int = 0
) -> ProbeResult:
  """Returns the top-1 accuracy of a linear SVM over published splits.

  Args:
    splits: With at least one.
    protocol: One of `PROTOCOLS`, or of your own.
    draws: Of the bootstrap.
    seed: Of the draws.

  Raises:
    ValueError: There is no split, or features are not finite or do not fit their labels.
  """
  if not splits:
    raise ValueError("probe: there is no split; give at least one.")
  right = [scores(split, protocol).argmax(axis=1) == split.test_labels for split in splits]
  rng, means = np.random.default_rng(seed), np.zeros(draws)
  for correct in right:
    means += correct[rng.integers(0, len(correct), (draws, len(correct)))].mean(axis=1)
  low, high = np.quantile(means / len(right), [0.025, 0.975])
  each = tuple(float(correct.mean()) for correct in right)
  return ProbeResult(
    each, float(np.mean(each)), (float(low), float(high)), sum(len(correct) for correct in right)
  )


def scores(split: Split, protocol: Protocol) -> Float[np.ndarray, "M K"]:
  """Returns the decision values of each test clip and class, averaged over its windows."""
  _check(split.train, split.train_labels, "train")
  _check(split.test, split.test_labels, "test")
  clips, windows, width = split.train.shape
  rows = np.asarray(split.train, np.float64).reshape(clips * windows, width)
  test = np.asarray(split.test, np.float64)
  if protocol.scale:
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[std == 0] = 1  # constant features stay 0
    rows, test = (rows - mean) / std, (test - mean) / std
  weights, intercepts = linear_svm(rows, np.repeat(split.train_labels, windows), protocol.c)
  return test.mean(axis=1) @ weights + intercepts  # the mean of linear scores


def linear_svm(
  rows: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], c: float
) -> tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]:
  """Returns weights and intercepts, for each class w of least |w|²/2 + c Σ max(0, 1 - y w·x)².

  Newton's method on the primal, exact to 1e-8 of the gradient. A class without rows scores below all.

  Raises:
    ValueError: c is not positive.
  """
  if not 0 < c < np.inf:
    raise ValueError(f"linear_svm: c={c}; use a positive number.")
  x = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
  found = np.zeros((x.shape[1], int(labels.max()) + 1))
  for number in range(found.shape[1]):
    if (labels == number).any():
      found[:, number] = _solve(x, np.where(labels == number, 1.0, -1.0), c)
    else:
      found[-1, number] = -np.inf
  return found[:-1], found[-1]


def recording_windows(
  features: Num[np.ndarray, "T D"], is_first: Bool[np.ndarray, " T"], num_windows: int
) -> Float[np.ndarray, "N W D"]:
  """Returns the means of features over equal parts of each recording of a stream.

  Args:
    features: Of each tick.
    is_first: True where a recording starts.
    num_windows: Parts of a recording.

  Raises:
    ValueError: A recording has fewer ticks.
  """
  starts = np.flatnonzero(is_first)
  recordings = np.split(np.asarray(features, np.float64), starts[starts > 0])
  shortest = min(len(recording) for recording in recordings)
  if not 1 <= num_windows <= shortest:
    raise ValueError(
      f"recording_windows: num_windows={num_windows}; the shortest recording has {shortest} ticks."
    )
  return np.stack([
    np.stack([part.mean(axis=0) for part in np.array_split(recording, num_windows)])
    for recording in recordings
  ])  # fmt: skip


def _solve(x: np.ndarray, sign: np.ndarray, c: float) -> np.ndarray:
  w = np.zeros(x.shape[1])
  start = None
  for _ in range(_MAX_STEPS):
    margin = 1 - sign * (x @ w)
    active = margin > 0
    gradient = w - 2 * c * x[active].T @ (sign * margin)[active]
    size = float(np.linalg.norm(gradient))
    start = size if start is None else start
    if size <= _TOLERANCE * max(start, 1e-300):
      break
    step = _newton_step(x[active], gradient, c)
    w = w - _length(x, sign, c, w, step, float(gradient @ step)) * step
  return w


def _newton_step(active: np.ndarray, gradient: np.ndarray, c: float) -> np.ndarray:
  """Returns (1 + 2 c XᵀX)⁻¹ times the gradient, by the smaller of the two systems."""
  rows, width = active.shape
  if rows >= width:
    return np.linalg.solve(np.eye(width) + 2 * c * active.T @ active, gradient)
  inner = np.eye(rows) / (2 * c) + active @ active.T
  return gradient - active.T @ np.linalg.solve(inner, active @ gradient)


def _length(
  x: np.ndarray, sign: np.ndarray, c: float, w: np.ndarray, step: np.ndarray, slope: float
) -> float:
  """Returns the first of 1, 1/2, 1/4, ... that makes the objective small enough (Armijo)."""
  value = lambda v: v @ v / 2 + c * np.sum(np.maximum(0, 1 - sign * (x @ v)) ** 2)  # noqa: E731
  before, length = value(w), 1.0
  while length > 1e-6 and value(w - length * step) > before - 1e-4 * length * slope:
    length /= 2
  return length


def _check(features: np.ndarray, labels: np.ndarray, what: str) -> None:
  if features.ndim != 3 or features.shape[:1] != labels.shape or not features.size:
    raise ValueError(
      f"probe: {what} features {list(features.shape)} for {list(labels.shape)} labels; expected "
      f"[clips, windows, D] and [clips]."
    )
  if not np.isfinite(features).all() or labels.min() < 0:
    raise ValueError(f"probe: {what} features are not finite, or labels negative.")
