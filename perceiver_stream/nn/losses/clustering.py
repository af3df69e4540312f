"""Pseudo-labels by clustering: k-means (XDC) and balanced transport (SeLaVi), in numpy float64.

Labels are made between updates, from features of the whole data set, so that these functions run on
the host. The losses on labels are in JAX.

Source: Alwassel et al. 2020, 1911.12667 (XDC, from the paper); Asano et al. 2020, 2006.13662
(SeLaVi; its code is CC BY-NC 4.0, and this is written from the paper and its equations).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from perceiver_stream.nn.losses.contrastive import Valid, cross_entropy, known_rows, mean_rows


class Clusters(NamedTuple):
  """Labels and what they cost.

  Attributes:
    labels: Of each sample, from 0.
    cost: Mean of -log of the joint probability of the label, half of it per modality.
    steps: Steps of the scaling.
  """

  labels: Int[np.ndarray, " N"]
  cost: float
  steps: int


def kmeans(
  features: Num[np.ndarray, "N D"], centres: Num[np.ndarray, "K D"], steps: int = 20
) -> tuple[Int[np.ndarray, "T N"], Float[np.ndarray, "K D"]]:
  """Returns the labels before each update of the centres, and the centres after the last.

  Ties go to the lower index; a cluster without samples keeps its centre.
  """
  x, centres = np.asarray(features, np.float64), np.array(centres, np.float64)
  labels = np.zeros((steps, len(x)), np.int64)
  for step in range(steps):
    labels[step] = np.argmin(np.square(x[:, None] - centres[None]).sum(-1), axis=1)
    for k in np.unique(labels[step]):
      centres[k] = x[labels[step] == k].mean(axis=0)
  return labels, centres


def whitened(features: Num[np.ndarray, "N D"], dim: int) -> Float[np.ndarray, "N E"]:
  """Returns the first principal components, each of variance 1, then samples of unit length.

  DeepCluster's preparation of k-means (dim 256, 20 steps).
  """
  x = np.asarray(features, np.float64)
  x = x - x.mean(axis=0)
  values, vectors = np.linalg.eigh(x.T @ x / len(x))
  chosen = np.argsort(-values)[:dim]
  y = x @ vectors[:, chosen] / np.sqrt(np.maximum(values[chosen], 1e-12))
  return y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)


def sinkhorn(
  weights: Float[np.ndarray, "N K"],
  cluster_mass: Float[np.ndarray, " K"],
  *,
  tolerance: float = 0.1,
  max_steps: int = 2000,
  check_every: int = 10,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " K"], int]:
  """Returns scales of rows and columns so that rows sum to 1/N and columns to `cluster_mass`.

  Stops once the sum of the relative changes of the rows' scales is at most `tolerance`, looked at
  every `check_every` steps. Rows sum exactly, columns as far as it has converged.

  Args:
    weights: Positive.
    cluster_mass: Sums to 1.
    tolerance: See above; 0.1 as released, 1e-6 for marginals within 1e-3.
    max_steps: Most steps.
    check_every: As released 10, from step 0 on.
  """
  num = len(weights)
  rows, steps, error = np.full(num, 1 / num), 0, np.inf
  columns = np.ones(weights.shape[1])
  while error > tolerance and steps < max_steps:
    columns = cluster_mass / (rows @ weights)
    new = 1 / num / (weights @ columns)
    if steps % check_every == 0:
      error = float(np.sum(np.abs(rows / new - 1)))
    rows, steps = new, steps + 1
  return rows, columns, steps


def balanced_labels(
  probabilities: Float[np.ndarray, "N K"],
  *,
  cluster_mass: Num[np.ndarray, " K"] | None = None,
  sharpness: float = 20.0,
  tolerance: float = 0.1,
) -> Clusters:
  """Returns labels of balanced clusters: the transport of samples to clusters, its best column.

  Args:
    probabilities: Product of the two modalities' softmax. It is raised to sharpness / 2, so that the
      geometric mean of the modalities is raised to `sharpness`.
    cluster_mass: Share of the samples in each cluster, in any unit; see `cluster_masses`. None: equal.
    sharpness: Higher ones follow the probabilities more closely.
    tolerance: See `sinkhorn`.
  """
  p = np.asarray(probabilities, np.float64)
  mass = np.ones(p.shape[1]) if cluster_mass is None else np.asarray(cluster_mass, np.float64)
  weights = p ** (0.5 * sharpness)
  rows, columns, steps = sinkhorn(weights, mass / mass.sum(), tolerance=tolerance)
  labels = np.argmax(weights * rows[:, None] * columns[None], axis=1)
  chosen = np.log(weights[np.arange(len(p)), labels])
  return Clusters(labels, float(-np.nansum(chosen) / sharpness / len(p)), steps)


def cluster_masses(
  probabilities: Float[np.ndarray, "N K"],
  sizes: Num[np.ndarray, " K"],
  *,
  as_released: bool = False,
) -> Float[np.ndarray, " K"]:
  """Returns the mass of each cluster: the largest size for the one with the largest probabilities.

  Args:
    probabilities: As in `balanced_labels`.
    sizes: Wanted sizes in any order; see `gaussian_sizes`.
    as_released: If True, as the released code: sizes are not sorted (its sort runs over an axis of
      length one), so that clusters get random ones, and the mass is proportional to 1 / size.
      Default False, the paper's description.
  """
  order, mass = np.argsort(np.sum(probabilities, axis=0), kind="stable"), np.empty(len(sizes))
  mass[order] = sizes if as_released else np.sort(sizes)
  return 1 / mass if as_released else mass


def gaussian_sizes(
  rng: np.random.Generator, num_samples: int, num_clusters: int, spread: float
) -> Float[np.ndarray, " K"]:
  """Returns random sizes (1 + spread · N(0, 1)) · samples / clusters, at least 1, for one head."""
  sizes = (1 + spread * rng.standard_normal(num_clusters)) * num_samples / num_clusters
  return np.maximum(sizes, 1.0)


def relabelling_steps(total: float, num: int) -> Float[np.ndarray, " num"]:
  """Returns the steps at which labels are made anew: total · linspace(0, 1, num)^1.5."""
  return total * np.linspace(0, 1, num) ** 1.5


def head_loss(
  logits: Float[Array, "M B K"], labels: Int[Array, "B M"], valid: Valid = None
) -> Float[Array, ""]:
  """Returns the mean cross-entropy over M heads, each with labels of its own."""
  each = known_rows(jnp.swapaxes(logits, 0, 1), valid)
  return mean_rows(jnp.mean(cross_entropy(each, labels), axis=1), valid=valid)


def cross_modal_loss(
  video_logits: Float[Array, "M B K"],
  audio_logits: Float[Array, "M B K"],
  video_labels: Int[Array, "B M"],
  audio_labels: Int[Array, "B M"],
  valid: Valid = None,
) -> Float[Array, ""]:
  """Returns the mean of both modalities' losses; the labels of each are the other's in XDC, and
  the same in SeLaVi."""
  return 0.5 * (
    head_loss(video_logits, audio_labels, valid) + head_loss(audio_logits, video_labels, valid)
  )
