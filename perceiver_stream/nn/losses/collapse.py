"""Collapse of representations: numbers that show it, and terms that prevent it.

A constant representation predicts itself perfectly. Watch numbers of a batch of features, and never a
probe's accuracy: a linear probe reads classes out of almost collapsed features. Features that depend
only on their place in a clip are as useless and look healthy over all tokens; `clip_std` shows them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.losses.contrastive import unit_length

# Rules of the alarm, measured on towers with and without stop-gradient, predictor and batch norm.
TOTAL_COSINE, TOTAL_STD, PARTIAL_COSINE, PARTIAL_RANK = 0.9, 0.1, 0.2, 0.5


class Collapse(NamedTuple):
  """Numbers of features of unit length.

  Attributes:
    std: Mean deviation of a channel times √D; 1 if isotropic, 0 if constant.
    rank: Exponential of the entropy of the covariance's eigenvalues, divided by D. It falls in partial
      collapse and rises in total collapse, where it is that of rounding noise.
    cosine: Mean cosine of two different samples; 1 if constant.
  """

  std: Float[Array, ""]
  rank: Float[Array, ""]
  cosine: Float[Array, ""]


def collapse(features: Float[Array, "N D"], valid: Bool[Array, " N"] | None = None) -> Collapse:
  """Returns the numbers of a batch; no gradient.

  Args:
    features: Of N samples or tokens.
    valid: False for those that do not count; None: all do. At least two must.
  """
  x = unit_length(jax.lax.stop_gradient(features).astype(jnp.float32))
  valid = jnp.ones(len(x), bool) if valid is None else valid
  x, dim = jnp.where(valid[:, None], x, 0.0), x.shape[1]
  num = jnp.maximum(jnp.sum(valid.astype(jnp.float32)), 1.0)
  centred = jnp.where(valid[:, None], x - jnp.sum(x, axis=0)[None] / num, 0.0)
  covariance = centred.T @ centred / num
  values = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0.0)
  share = values / jnp.maximum(jnp.sum(values), 1e-30)
  entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.maximum(share, 1e-30)), 0.0))
  std = jnp.mean(jnp.sqrt(jnp.sum(jnp.square(centred), axis=0) / num)) * dim**0.5
  lengths = jnp.sum(jnp.square(x))
  cosine = (jnp.sum(jnp.square(jnp.sum(x, axis=0))) - lengths) / jnp.maximum(num * (num - 1), 1.0)
  return Collapse(std, jnp.exp(entropy) / dim, cosine)


def clip_std(
  features: Float[Array, "B P D"], valid: Bool[Array, " B"] | None = None
) -> Float[Array, ""]:
  """Returns the deviation over clips at the same place, as `Collapse.std`; no gradient.

  0 if features depend only on their place. The variance is the unbiased one.

  Args:
    features: Of each clip at P places.
    valid: False for clips that do not count; None: all do. At least two must.
  """
  x = unit_length(jax.lax.stop_gradient(features).astype(jnp.float32))
  kept = (jnp.ones(len(x), bool) if valid is None else valid)[:, None, None]
  num = jnp.sum(kept.astype(jnp.float32))
  mean = jnp.sum(jnp.where(kept, x, 0.0), axis=0) / jnp.maximum(num, 1.0)
  squares = jnp.where(kept, jnp.square(x - mean[None]), 0.0)
  variance = jnp.mean(jnp.sum(squares, axis=0), axis=0) / jnp.maximum(num - 1, 1.0)
  return jnp.mean(jnp.sqrt(variance)) * x.shape[-1] ** 0.5


def alarm(found: Collapse, healthy_rank: float = 0.0) -> Float[Array, ""]:
  """Returns 1 for total or partial collapse, else 0.

  Total: cosine above 0.9, or std below 0.1. Partial: rank below half of `healthy_rank`, that of a
  healthy run after some hundred steps, and cosine above 0.2; without a reference it is not tested.
  """
  total = (found.cosine > TOTAL_COSINE) | (found.std < TOTAL_STD)
  partial = (found.rank < PARTIAL_RANK * healthy_rank) & (found.cosine > PARTIAL_COSINE)
  return (total | partial).astype(jnp.float32)


def variance_loss(features: Float[Array, "N D"], *, target: float = 1.0) -> Float[Array, ""]:
  """Returns the mean over channels of max(target - deviation, 0), VICReg's variance term.

  Source: Bardes et al. 2022, 2105.04906.
  """
  deviation = jnp.sqrt(jnp.var(features, axis=0) + 1e-4)
  return jnp.mean(jnp.maximum(target - deviation, 0.0))


def covariance_loss(features: Float[Array, "N D"]) -> Float[Array, ""]:
  """Returns the sum of squared covariances of different channels, divided by D, as VICReg."""
  num, dim = features.shape
  centred = features - jnp.mean(features, axis=0)[None]
  covariance = centred.T @ centred / max(num - 1, 1)
  off = jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(jnp.diagonal(covariance)))
  return off / dim
