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

_MAX_STEPS = 300
_MAX_PRODUCTS = 200  # with the Hessian, in a step
_TOLERANCE = 1e-4  # of the first gradient
_TINY = 1e-300


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

  Newton's method with a trust region on the primal, for all classes at once, until gradients are 1e-4 of
  the first. A class without rows scores below all.

  Raises:
    ValueError: c is not positive.
  """
  if not 0 < c < np.inf:
    raise ValueError(f"linear_svm: c={c}; use a positive number.")
  x = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
  classes = np.unique(labels)
  found = np.zeros((x.shape[1], int(labels.max()) + 1))
  found[-1] = -np.inf
  found[:, classes] = _solve(x, np.where(labels[:, None] == classes, 1.0, -1.0), c)
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


class _Machines:
  """The machines of several classes on the same rows: weights `[D, K]`, and the scores of rows `[N, K]`."""

  def __init__(self, x: Float[np.ndarray, "N D"], sign: Float[np.ndarray, "N K"], c: float):
    self.x, self.sign, self.c = x, sign, c
    self.weights, self.scored = np.zeros((x.shape[1], sign.shape[1])), np.zeros_like(sign)

  def gradient(self) -> tuple[Float[np.ndarray, "D K"], Bool[np.ndarray, "N K"]]:
    """Returns the gradient, and the rows within the margin."""
    margin = np.maximum(0, 1 - self.sign * self.scored)
    return self.weights - 2 * self.c * self.x.T @ (self.sign * margin), margin > 0

  def value(self, weights: np.ndarray, scored: np.ndarray) -> Float[np.ndarray, " K"]:
    """Returns the objective of each class."""
    loss = np.sum(np.maximum(0, 1 - self.sign * scored) ** 2, axis=0)
    return np.sum(weights**2, axis=0) / 2 + self.c * loss

  def steps(
    self, gradient: np.ndarray, active: np.ndarray, radius: Float[np.ndarray, " K"]
  ) -> tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]:
    """Returns steps no longer than the radius, and their gain by the quadratic model.

    Conjugate gradients, ended at the radius (Steihaug), or when a tenth of the gradient is left.
    """
    step, rest = np.zeros_like(gradient), gradient.copy()
    along, square = rest.copy(), np.sum(gradient**2, axis=0)
    enough, going = square / 100, square > 0
    for _ in range(_MAX_PRODUCTS):
      if not going.any():
        break
      product = along + 2 * self.c * self.x.T @ (active * (self.x @ along))
      length = square / np.maximum(np.sum(along * product, axis=0), _TINY)
      edge = _to_edge(step, along, radius)
      length, inside = np.where(going, np.minimum(length, edge), 0), length < edge
      step, rest = step + length * along, rest - length * product
      new = np.sum(rest**2, axis=0)
      going = going & inside & (new > enough)
      along = np.where(going, rest + new / np.maximum(square, _TINY) * along, along)
      square = np.where(going, new, square)
    return step, np.sum((gradient + rest) * step, axis=0) / 2


def _solve(
  x: Float[np.ndarray, "N D"], sign: Float[np.ndarray, "N K"], c: float
) -> Float[np.ndarray, "D K"]:
  machines = _Machines(x, sign, c)
  gradient, active = machines.gradient()
  size = np.linalg.norm(gradient, axis=0)
  enough, radius = _TOLERANCE * size, size
  for number in range(_MAX_STEPS):
    if (size <= enough).all():
      break
    step, expected = machines.steps(np.where(size > enough, gradient, 0), active, radius)
    moved, length = x @ step, np.linalg.norm(step, axis=0)
    gain = machines.value(machines.weights, machines.scored)
    gain -= machines.value(machines.weights - step, machines.scored - moved)
    ratio = gain / np.maximum(expected, _TINY)
    radius = np.minimum(radius, length) if not number else radius
    radius = np.where(ratio < 0.25, 0.3 * length, radius)
    radius = np.where(ratio > 0.75, np.maximum(radius, 3 * length), radius)
    taken = ratio > 1e-4
    machines.weights -= taken * step
    machines.scored -= taken * moved
    gradient, active = machines.gradient()
    size = np.linalg.norm(gradient, axis=0)
  return machines.weights


def _to_edge(
  step: np.ndarray, along: np.ndarray, radius: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
  """Returns the factor of a direction at which the step has the length of the radius."""
  square = np.maximum(np.sum(along**2, axis=0), _TINY)
  inner = np.sum(step * along, axis=0)
  room = np.maximum(radius**2 - np.sum(step**2, axis=0), 0)
  return (np.sqrt(inner**2 + square * room) - inner) / square


def _check(features: np.ndarray, labels: np.ndarray, what: str) -> None:
  if features.ndim != 3 or features.shape[:1] != labels.shape or not features.size:
    raise ValueError(
      f"probe: {what} features {list(features.shape)} for {list(labels.shape)} labels; expected "
      f"[clips, windows, D] and [clips]."
    )
  if not np.isfinite(features).all() or labels.min() < 0:
    raise ValueError(f"probe: {what} features are not finite, or labels negative.")
