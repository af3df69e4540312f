"""Blocks of V-JEPA's transformers: names follow the released code, written anew."""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.models.vjepa.positions import rotated_3d
from perceiver_stream.nn.attention import attend
from perceiver_stream.nn.layers import LayerNorm, Linear, exact_gelu

# Normal of deviation 0.02: the released code cuts it at ±2, 100 deviations, so not at all.
normal = hk.initializers.RandomNormal(0.02)


def linear(dim: int, name: str) -> Linear:
  """Returns a linear layer with the initial values of the release, for every layer alike.

  The release divides the weights of deep layers first, then draws all linear layers anew.
  """
  return Linear(dim, w_init=normal, name=name)


def heads(x: Float[Array, "B N C"], num: int) -> Float[Array, "B N M F"]:
  """Returns contiguous groups of channels."""
  return x.reshape(*x.shape[:-1], num, -1)


class Rotation:
  """Positions of rotary attention: places of the tokens, and the grid of a frame."""

  def __init__(self, places: Int[Array, "B N"], frame: tuple[int, int], as_released: bool):
    self.places, self.frame, self.as_released = places, frame, as_released

  def __call__(self, x: Float[Array, "B N M F"]) -> Float[Array, "B N M F"]:
    """Returns rotated queries or keys."""
    return rotated_3d(x, self.places, self.frame, as_released=self.as_released)


class Block(hk.Module):
  """x += attention(norm(x)); x += MLP(norm(x)), with the exact GELU.

  Args:
    num_heads: Attention heads.
    mlp_dim: Width of the MLP's hidden layer.
    eps: Of the norms.
    name: Haiku name.
  """

  def __init__(self, num_heads: int, mlp_dim: int, *, eps: float = 1e-6, name: str):
    super().__init__(name=name)
    self.num_heads, self.mlp_dim, self.eps = num_heads, mlp_dim, eps

  def __call__(
    self,
    x: Float[Array, "B N C"],
    rotation: Rotation | None = None,
    mask: Bool[Array, "B N"] | None = None,
  ) -> Float[Array, "B N C"]:
    """Returns the updated tokens; `mask` is True for tokens that are attended to."""
    normed = LayerNorm(eps=self.eps, name="norm1")(x)
    q, k, v = jnp.split(linear(3 * x.shape[-1], "qkv")(normed), 3, axis=-1)
    q, k, v = (heads(part, self.num_heads) for part in (q, k, v))
    if rotation is not None:
      q, k = rotation(q), rotation(k)
    gathered = attend(q, k, v, mask).reshape(x.shape)
    x = x + linear(x.shape[-1], "proj")(gathered)
    return x + mlp(LayerNorm(eps=self.eps, name="norm2")(x), self.mlp_dim)


def mlp(x: Float[Array, "B N C"], hidden: int) -> Float[Array, "B N C"]:
  """Returns linear, GELU, linear, inside a module."""
  return linear(x.shape[-1], "fc2")(exact_gelu(linear(hidden, "fc1")(x)))


class CrossBlock(hk.Module):
  """q += attention(q, norm(x)); q += MLP(norm(q)); without a projection after the attention."""

  def __init__(self, num_heads: int, mlp_dim: int, *, eps: float = 1e-5, name: str):
    super().__init__(name=name)
    self.num_heads, self.mlp_dim, self.eps = num_heads, mlp_dim, eps

  def __call__(
    self, queries: Float[Array, "B Q C"], x: Float[Array, "B N C"]
  ) -> Float[Array, "B Q C"]:
    """Returns the updated queries, which are not normalised before."""
    normed = LayerNorm(eps=self.eps, name="norm1")(x)
    k, v = jnp.split(linear(2 * x.shape[-1], "kv")(normed), 2, axis=-1)
    q, k, v = (heads(p, self.num_heads) for p in (linear(x.shape[-1], "q")(queries), k, v))
    queries = queries + attend(q, k, v).reshape(queries.shape)
    return queries + mlp(LayerNorm(eps=self.eps, name="norm2")(queries), self.mlp_dim)
