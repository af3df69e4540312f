"""Linear maps, norms and the MLP. Parameters are float32; the input's dtype is kept."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.precision import broadcast

# The tanh form, as in every model of this family. Only its input is stored for the backward pass;
# JAX's default stores several arrays of that size and takes the same time.
gelu = jax.checkpoint(functools.partial(jax.nn.gelu, approximate=True))


def lecun_normal() -> hk.initializers.Initializer:
  """Returns the initialiser with true standard deviation 1/sqrt(fan_in)."""
  return hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")


class Linear(hk.Module):
  """Affine map of the last axis: `x @ w + b`, `w` `[C_in, C_out]`."""

  def __init__(
    self,
    output_dim: int,
    *,
    use_bias: bool = True,
    w_init: hk.initializers.Initializer | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.output_dim = output_dim
    self.use_bias = use_bias
    self.w_init = w_init or lecun_normal()

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... K"]:
    """Returns the mapped array, in the dtype of `x`."""
    w = hk.get_parameter("w", (x.shape[-1], self.output_dim), jnp.float32, self.w_init)
    y = jnp.dot(x, w.astype(x.dtype))
    if self.use_bias:
      b = hk.get_parameter("b", (self.output_dim,), jnp.float32, jnp.zeros)
      y = y + broadcast(b, y)
    return y


class LayerNorm(hk.Module):
  """Normalises the last axis to mean 0 and variance 1 (biased), then scales and shifts."""

  def __init__(self, *, use_offset: bool = True, eps: float = 1e-6, name: str):
    super().__init__(name=name)
    self.use_offset = use_offset
    self.eps = eps

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns the normalised array; statistics in float32."""
    y = x.astype(jnp.float32)
    mean = jnp.mean(y, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(y - mean), axis=-1, keepdims=True)
    y = (y - mean) * jax.lax.rsqrt(variance + self.eps)
    y = y * broadcast(hk.get_parameter("scale", x.shape[-1:], jnp.float32, jnp.ones), y)
    if self.use_offset:
      y = y + broadcast(hk.get_parameter("offset", x.shape[-1:], jnp.float32, jnp.zeros), y)
    return y.astype(x.dtype)


class RMSNorm(hk.Module):
  """Divides the last axis by its root mean square, then scales."""

  def __init__(self, *, eps: float = 1e-6, name: str):
    super().__init__(name=name)
    self.eps = eps

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns the normalised array; statistics in float32."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
    y = y * broadcast(hk.get_parameter("scale", x.shape[-1:], jnp.float32, jnp.ones), y)
    return y.astype(x.dtype)


class MLP(hk.Module):
  """Dense, GELU, dense."""

  def __init__(self, hidden_dim: int, *, output_dim: int | None = None, name: str):
    super().__init__(name=name)
    self.hidden_dim = hidden_dim
    self.output_dim = output_dim

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... K"]:
    """Returns an array of width `output_dim`, or the input's width."""
    hidden = gelu(Linear(self.hidden_dim, name="hidden")(x))
    return Linear(self.output_dim or x.shape[-1], name="output")(hidden)
