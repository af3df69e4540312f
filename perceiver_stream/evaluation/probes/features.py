"""Probes of frozen features, in numpy: nearest neighbours, retrieval, linear, clusters.

Folds and splits are given, never drawn here; nothing is tuned on what is tested. Features `[N, D]`,
labels integers from 0.
"""

import numpy as np
from jaxtyping import Float, Int, Num

Features = Num[np.ndarray, "N D"]
Labels = Int[np.ndarray, " N"]


def unit(features: Num[np.ndarray, "*N D"]) -> Float[np.ndarray, "*N D"]:
  """Returns features divided by their length, float64; zeros stay zeros."""
  x = np.asarray(features, np.float64)
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def nearest_neighbours(
  train: Num[np.ndarray, "N D"],
  labels: Labels,
  test: Num[np.ndarray, "M D"],
  *,
  k: int = 20,
  temperature: float = 0.07,
) -> Int[np.ndarray, " M"]:
  """Returns labels by the vote of the k nearest in cosine, each with weight exp(cosine / temperature).

  Source: Wu et al. 2018, 1805.01978. Ties go to the lower label.

  Raises:
    ValueError: k is less than 1.
  """
  if k < 1:
    raise ValueError(f"nearest_neighbours: k={k}; use at least 1.")
  similar = unit(test) @ unit(train).T
  nearest = np.argsort(-similar, axis=1, kind="stable")[:, : min(k, len(train))]
  best = np.take_along_axis(similar, nearest, axis=1)
  weight = np.exp((best - best.max(axis=1, keepdims=True)) / temperature)
  votes = np.zeros((len(test), int(labels.max()) + 1))
  for column in range(nearest.shape[1]):
    np.add.at(votes, (np.arange(len(test)), labels[nearest[:, column]]), weight[:, column])
  return np.argmax(votes, axis=1)


def linear_probe(
  train: Num[np.ndarray, "N D"],
  labels: Labels,
  test: Num[np.ndarray, "M D"],
  *,
  weight_decay: float = 1.0,
) -> Int[np.ndarray, " M"]:
  """Returns labels by ridge regression to one-hot vectors, in closed form.

  Features are standardised by the training set, as the published protocols do before their support
  vector machines; `weight_decay` is added to the diagonal of the N-normalised covariance times 1e-2.
  """
  x = np.asarray(train, np.float64)
  mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
  scaled = lambda y: np.concatenate([(y - mean) / std, np.ones((len(y), 1))], axis=1)  # noqa: E731
  a, target = scaled(x), np.eye(int(labels.max()) + 1)[labels]
  gram = a.T @ a / len(a) + 1e-2 * weight_decay * np.eye(a.shape[1])
  solution = np.linalg.solve(gram, a.T @ target / len(a))
  return np.argmax(scaled(np.asarray(test, np.float64)) @ solution, axis=1)


def accuracy(found: Int[np.ndarray, " N"], truth: Int[np.ndarray, " N"]) -> float:
  """Returns the share of labels that are right."""
  return float(np.mean(found == truth))


def recall_at(
  queries: Num[np.ndarray, "N D"],
  gallery: Num[np.ndarray, "M D"],
  relevant: Num[np.ndarray, "N M"],
  k: int,
) -> float:
  """Returns the share of queries with a relevant item among the k most similar in cosine.

  Args:
    queries: Of one modality or view.
    gallery: Of the other.
    relevant: True, or not 0, for pairs that belong together; `np.eye(N)` for pairs.
    k: Items that are retrieved.
  """
  nearest = np.argsort(-(unit(queries) @ unit(gallery).T), axis=1, kind="stable")[:, :k]
  return float(np.mean(np.take_along_axis(np.asarray(relevant) != 0, nearest, axis=1).any(axis=1)))


def contingency(clusters: Labels, labels: Labels) -> Int[np.ndarray, "K L"]:
  """Returns the number of samples for each pair of cluster and label."""
  table = np.zeros((int(clusters.max()) + 1, int(labels.max()) + 1), np.int64)
  np.add.at(table, (clusters, labels), 1)
  return table


def purity(clusters: Labels, labels: Labels) -> float:
  """Returns the share of samples whose label is the most common one of their cluster."""
  return float(contingency(clusters, labels).max(axis=1).sum() / len(labels))


def mutual_information(clusters: Labels, labels: Labels) -> float:
  """Returns the normalised mutual information: I / mean of the two entropies; 0 if both are 0."""
  joint = contingency(clusters, labels) / len(labels)
  rows, columns = joint.sum(axis=1), joint.sum(axis=0)
  nonzero = joint > 0
  ratio = joint[nonzero] / np.outer(rows, columns)[nonzero]
  information = float(np.sum(joint[nonzero] * np.log(ratio)))
  mean = (_entropy(rows) + _entropy(columns)) / 2
  return information / mean if mean > 0 else 0.0


def bootstrap_interval(
  right: Num[np.ndarray, " N"], *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
  """Returns an interval of the mean of per-sample results, by drawing samples with replacement."""
  rng = np.random.default_rng(seed)
  values = np.asarray(right, np.float64)
  means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def _entropy(p: Float[np.ndarray, " K"]) -> float:
  p = p[p > 0]
  return float(-np.sum(p * np.log(p)))
