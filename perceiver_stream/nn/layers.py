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
exact_gelu = jax.checkpoint(functools.partial(jax.nn.gelu, approximate=False))  # torch's default


def lecun_normal() -> hk.initializers.Initializer:
  """Returns the initialiser with true standard deviation 1/sqrt(fan_in)."""
  return hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")


def haiku_normal() -> hk.initializers.Initializer:
  """Returns Haiku's default initialiser: a normal of deviation 1/sqrt(fan_in), then cut at two of them.

  The true deviation is 12 % less, as in models released in Haiku.
  """
  cut = 0.87962566103423978  # deviation of a unit normal cut at 2
  return hk.initializers.VarianceScaling(cut**2, "fan_in", "truncated_normal")


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


class BlockLinear(hk.Module):
  """Affine map of the last axis by a block-diagonal matrix: `w` `[num_blocks, C, C]`."""

  def __init__(self, num_blocks: int, *, name: str):
    super().__init__(name=name)
    self.num_blocks = num_blocks

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns the mapped array, in the dtype of `x`."""
    blocks, side = self.num_blocks, x.shape[-1] // self.num_blocks
    init = hk.initializers.RandomNormal(side**-0.5)
    w = hk.get_parameter("w", (blocks, side, side), jnp.float32, init).astype(x.dtype)
    b = hk.get_parameter("b", (blocks, side), jnp.float32, jnp.zeros)
    split = x.reshape(*x.shape[:-1], blocks, side)
    y = jnp.einsum("...hi,hij->...hj", split, w)
    bias = jax.lax.broadcast_in_dim(b.astype(y.dtype), y.shape, (y.ndim - 2, y.ndim - 1))
    return (y + bias).reshape(x.shape)


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
  """Divides the last axis by its root mean square, then scales.

  Args:
    eps: Added to the mean square.
    add_one: If True, the factor is 1 + `scale`, and `scale` starts at 0 (Griffin, 2402.19427).
    name: Haiku name.
  """

  def __init__(self, *, eps: float = 1e-6, add_one: bool = False, name: str):
    super().__init__(name=name)
    self.eps = eps
    self.add_one = add_one

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns the normalised array; statistics in float32."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
    init = jnp.zeros if self.add_one else jnp.ones
    scale = hk.get_parameter("scale", x.shape[-1:], jnp.float32, init)
    y = y * broadcast(1 + scale if self.add_one else scale, y)
    return y.astype(x.dtype)


class MLP(hk.Module):
  """Dense, GELU, dense; `exact` uses the exact GELU instead of its tanh form."""

  def __init__(
    self, hidden_dim: int, *, output_dim: int | None = None, exact: bool = False, name: str
  ):
    super().__init__(name=name)
    self.hidden_dim = hidden_dim
    self.output_dim = output_dim
    self.activation = exact_gelu if exact else gelu

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... K"]:
    """Returns an array of width `output_dim`, or the input's width."""
    hidden = self.activation(Linear(self.hidden_dim, name="hidden")(x))
    return Linear(self.output_dim or x.shape[-1], name="output")(hidden)
