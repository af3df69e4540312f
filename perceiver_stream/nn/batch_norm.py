"""Batch normalisation with explicit running statistics, in the convention of torch."""

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.precision import broadcast


class BatchNorm(hk.Module):
  """Normalises each channel over all other axes; the running statistics are Haiku state.

  In training with the batch's mean and biased variance; the running values move towards the mean
  and the unbiased variance by `momentum`, as in torch. (Haiku's own module stores the biased
  variance and removes the bias of the zero start: its statistics are not interchangeable.) In a
  program that is partitioned over devices, the batch is the global one.

  Args:
    eps: Added to the variance.
    momentum: Share of the batch in the running statistics.
    unbiased: If False, the running variance is that of the batch, as in TensorFlow.
    use_scale: If False, there is no `scale` (I3D).
    scale_init: Initialiser of the scale; None: ones.
    name: Haiku name.
  """

  def __init__(
    self,
    *,
    eps: float = 1e-5,
    momentum: float = 0.1,
    unbiased: bool = True,
    use_scale: bool = True,
    scale_init: hk.initializers.Initializer | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.eps = eps
    self.momentum = momentum
    self.unbiased = unbiased
    self.use_scale = use_scale
    self.scale_init = scale_init or jnp.ones

  def __call__(self, x: Float[Array, "*n C"], is_training: bool) -> Float[Array, "*n C"]:
    """Returns the normalised array; updates the statistics in training."""
    shape = x.shape[-1:]
    mean = hk.get_state("mean", shape, jnp.float32, jnp.zeros)
    variance = hk.get_state("variance", shape, jnp.float32, jnp.ones)
    y = x.astype(jnp.float32)
    if is_training:
      mean, variance = self._update(y, mean, variance)
    factor = jax.lax.rsqrt(variance + self.eps)
    if self.use_scale:
      factor = factor * hk.get_parameter("scale", shape, jnp.float32, self.scale_init)
    y = (y - broadcast(mean, y)) * broadcast(factor, y)
    offset = hk.get_parameter("offset", shape, jnp.float32, jnp.zeros)
    return (y + broadcast(offset, y)).astype(x.dtype)

  @hk.name_like("__call__")
  def _update(
    self, y: Float[Array, "*n C"], old_mean: Float[Array, " C"], old_variance: Float[Array, " C"]
  ) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    """Returns mean and biased variance of the batch, and moves the running statistics."""
    axes = tuple(range(y.ndim - 1))
    mean = jnp.mean(y, axes)
    variance = jnp.mean(jnp.square(y - broadcast(mean, y)), axes)
    number = y.size // y.shape[-1]
    kept = variance * (number / max(number - 1, 1)) if self.unbiased else variance
    move = lambda old, new: old + self.momentum * (jax.lax.stop_gradient(new) - old)  # noqa: E731
    hk.set_state("mean", move(old_mean, mean))
    hk.set_state("variance", move(old_variance, kept))
    return mean, variance
