"""Targets, loss and schedules of V-JEPA's pre-training.

Order of a step, as released: encode and predict, loss, gradients, clip, optimiser, then the teacher.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

TARGET_EPS = 1e-5  # of the norm of the targets
SPREAD_EPS = 1e-4


def target_features(features: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
  """Returns the teacher's features, normalised over channels without scale and offset.

  The norm hides a collapse to a constant; monitor the features before it.
  """
  mean = jnp.mean(features, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(features - mean), axis=-1, keepdims=True)
  return (features - mean) / jnp.sqrt(variance + TARGET_EPS)


def feature_loss(
  predicted: Float[Array, "B N D"],
  target: Float[Array, "B N D"],
  counted: Bool[Array, "B N"] | None = None,
  *,
  exponent: float = 1.0,
) -> Float[Array, ""]:
  """Returns the mean of |predicted - target|^exponent / exponent over the counted tokens."""
  error = jnp.mean(jnp.abs(predicted - target) ** exponent, axis=-1) / exponent
  if counted is None:
    return jnp.mean(error)
  share = counted.astype(error.dtype)
  return jnp.sum(error * share) / jnp.maximum(jnp.sum(share), 1.0)


def spread_loss(predictions: list[Array]) -> Float[Array, ""]:
  """Returns the mean of max(1 - deviation over tokens, 0), deviations averaged over the mask sets.

  Off in the published models (`reg_coeff` 0).
  """
  deviations = [jnp.sqrt(jnp.var(p, axis=1, ddof=1) + SPREAD_EPS) for p in predictions]
  return jnp.mean(jnp.maximum(1 - sum(deviations) / len(deviations), 0.0))


def warmup_cosine(
  steps: int, *, warmup: int, total: int, start: float, peak: float, final: float
) -> Float[np.ndarray, " N"]:
  """Returns the learning rates of steps 1 to `steps`: linear to the peak, then half a cosine.

  `total` is 1.25 times the steps of the run, as released, so that the cosine does not end.
  """
  step = np.arange(1, steps + 1, dtype=np.float64)
  rising = start + step / max(1, warmup) * (peak - start)
  progress = (step - warmup) / max(1, total - warmup)
  falling = final + (peak - final) * 0.5 * (1 + np.cos(np.pi * progress))
  return np.where(step < warmup, rising, np.maximum(falling, final))


def cosine_decay(steps: int, *, total: int, start: float, final: float) -> Float[np.ndarray, " N"]:
  """Returns the weight decays of steps 1 to `steps`: half a cosine from `start` to `final`."""
  progress = np.arange(1, steps + 1) / total
  values = final + (start - final) * 0.5 * (1 + np.cos(np.pi * progress))
  return np.maximum(values, final) if final <= start else np.minimum(values, final)


def linear_momentum(total: int, start: float, final: float) -> Float[np.ndarray, " N"]:
  """Returns the teacher's momentum at steps 0 to `total`."""
  return start + np.arange(total + 1) * (final - start) / total
