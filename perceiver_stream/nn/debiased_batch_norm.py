"""Batch normalisation of released Haiku models: running statistics are zero-debiased averages."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class NormMode(NamedTuple):
  """Source of the statistics of all batch norms of a network.

  Attributes:
    is_training: If True, those of the batch are used and enter the running ones; otherwise the
      running ones are used.
    axis_name: Name of a mapped axis over which batches are one batch; None: there is none. Under `jit`
      a sharded batch is one batch without it.
  """

  is_training: bool
  axis_name: str | None = None


class BatchNorm(hk.Module):
  """Normalises the last axis over all others, then scales and shifts.

  Variances are biased in output and running values; running values are zero-debiased exponential
  averages, hidden / (1 - decayⁿ). PyTorch's differ in both, so running statistics of the two are not
  interchangeable during training. Parameters `scale`, `offset` and states `~/mean_ema`, `~/var_ema`
  (`hidden`, `average`, `counter`) are as in Haiku, with leading axes of size one.

  Differs from Haiku's: the variance is the mean squared distance from the mean. The released
  E[x²] - E[x]² loses three digits where a mean is much larger than its deviation.
  """

  def __init__(self, *, decay: float = 0.9, eps: float = 1e-5, name: str):
    super().__init__(name=name)
    self.eps = eps
    self.mean_ema = hk.ExponentialMovingAverage(decay, name="mean_ema")
    self.var_ema = hk.ExponentialMovingAverage(decay, name="var_ema")

  def __call__(self, x: Float[Array, "*n C"], mode: NormMode) -> Float[Array, "*n C"]:
    """Returns the normalised array."""
    shape = (*[1] * (x.ndim - 1), x.shape[-1])
    scale = hk.get_parameter("scale", shape, x.dtype, jnp.ones)
    offset = hk.get_parameter("offset", shape, x.dtype, jnp.zeros)
    if mode.is_training or hk.running_init():  # the first batch makes the state
      mean, variance = self._batch(x, None if hk.running_init() else mode.axis_name)
      with jax.numpy_dtype_promotion("standard"):  # Haiku's debiasing mixes int32 and float32
        self.mean_ema(mean)
        self.var_ema(variance)
    else:
      mean, variance = self.mean_ema.average, self.var_ema.average
    return (x - mean) * (scale * jax.lax.rsqrt(variance + self.eps)) + offset

  @hk.name_like("__call__")
  def _batch(
    self, x: Float[Array, "*n C"], axis_name: str | None
  ) -> tuple[Float[Array, "*m C"], Float[Array, "*m C"]]:
    """Returns mean and biased variance, over a mapped axis too."""
    axes = tuple(range(x.ndim - 1))
    over = lambda y: y if axis_name is None else jax.lax.pmean(y, axis_name)  # noqa: E731
    mean = over(jnp.mean(x, axes, keepdims=True))
    return mean, over(jnp.mean(jnp.square(x - mean), axes, keepdims=True))


def batch_norm(x: Float[Array, "*n C"], mode: NormMode, *, name: str) -> Float[Array, "*n C"]:
  """Returns x normalised by a new `BatchNorm` of that name."""
  return BatchNorm(name=name)(x, mode)
