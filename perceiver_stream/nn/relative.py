"""Cross-attention with positions relative to the query."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.attention import attend, attention_weights
from perceiver_stream.nn.capture import record
from perceiver_stream.nn.layers import MLP, LayerNorm, Linear, RMSNorm

_OCTAVES = 4  # wavelengths 2, 1, 1/2 and 1/4 of positions in [-1, 1]
_RADIUS = 0.25  # standard deviation of the initial neighbourhood of positions in [-1, 1]

Mask = Bool[Array, "B N"] | Bool[Array, "B Q N"] | None


class RelativeAttention(hk.Module):
  """Multi-head attention whose logits and values have Fourier features of key minus query position.

  A sine of a difference is a product of sines and cosines, so features of queries are rotated
  instead of computed for each pair: the cost is that of attention with wider heads. The term
  -d² / 2r² is added to the logits, with a learned radius r per head. A query without position uses
  absolute positions and no distance term; a key without position has neither features nor a
  distance term.

  Args:
    num_heads: Heads; must divide `qk_dim`.
    qk_dim: Width of queries, keys and values over all heads.
    output_dim: Width of the result.
    name: Haiku name.
  """

  def __init__(self, num_heads: int, *, qk_dim: int, output_dim: int, name: str):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.qk_dim = qk_dim
    self.output_dim = output_dim

  def __call__(
    self,
    queries: Float[Array, "B Q E"],
    keys_values: Float[Array, "B N C"],
    query_positions: Float[Array, "B Q 2"],
    positions: Float[Array, "B N 2"],
    mask: Mask = None,
  ) -> Float[Array, "B Q K"]:
    """Returns the output of each query; NaN marks vectors without position."""
    cos, sin = _waves(query_positions)
    q = self._queries(queries, query_positions, cos, sin)
    k = self._keys(keys_values, positions)
    v = self._heads(keys_values, self.qk_dim, "value")
    waves = _placed_waves(positions, v.dtype)
    v = jnp.concatenate([v, _for_heads(waves, self.num_heads)], axis=-1)
    q = q * math.sqrt(q.shape[-1])  # `attend` divides by it; scales are already applied
    record(self.module_name, lambda: jnp.mean(attention_weights(q, k, mask), axis=1))
    found = attend(q, k, v, mask)
    half, width = waves.shape[-1] // 2, self.qk_dim // self.num_heads
    content, c, s = jnp.split(found, [width, width + half], axis=-1)
    cos, sin = (_for_heads(w.astype(c.dtype), self.num_heads) for w in (cos, sin))
    found = jnp.concatenate([content, c * cos + s * sin, s * cos - c * sin], axis=-1)
    return Linear(self.output_dim, name="output")(rearrange(found, "b q m g -> b q (m g)"))

  @hk.name_like("__call__")
  def _queries(self, x: Array, positions: Array, cos: Array, sin: Array) -> Float[Array, "B Q M F"]:
    """Returns content, rotated weights of the features, and the parts of the distance."""
    content = RMSNorm(name="query_norm")(self._heads(x, self.qk_dim, "query"))
    content = content / math.sqrt(content.shape[-1])
    waves = self._heads(x, self.num_heads * 2 * cos.shape[-1], "query_position")
    c, s = jnp.split(waves, 2, axis=-1)
    cos, sin = (_for_heads(w.astype(x.dtype), self.num_heads) for w in (cos, sin))
    rotated = [c * cos - s * sin, c * sin + s * cos]
    start = hk.initializers.Constant(math.log(0.5 / _RADIUS**2))
    sharp = hk.get_parameter("sharpness", (self.num_heads,), jnp.float32, start)
    placed = jnp.isfinite(positions[..., :1])
    at = jnp.where(placed, positions, jnp.zeros_like(positions))
    square = jnp.sum(jnp.square(at), axis=-1, keepdims=True)
    distance = jnp.concatenate([2 * at, -jnp.ones_like(square), -square], axis=-1)
    distance = jnp.where(placed, distance, jnp.zeros_like(distance))[:, :, None]
    distance = distance * jnp.exp(sharp).reshape(1, 1, -1, 1)
    return jnp.concatenate([content, *rotated, distance.astype(x.dtype)], axis=-1)

  @hk.name_like("__call__")
  def _keys(self, x: Array, positions: Array) -> Float[Array, "B N M F"]:
    content = RMSNorm(name="key_norm")(self._heads(x, self.qk_dim, "key"))
    placed = jnp.isfinite(positions[..., :1])
    at = jnp.where(placed, positions, jnp.zeros_like(positions))
    square = jnp.sum(jnp.square(at), axis=-1, keepdims=True)
    parts = jnp.concatenate([at, square, placed.astype(at.dtype)], axis=-1).astype(x.dtype)
    parts = jnp.concatenate([_placed_waves(positions, x.dtype), parts], axis=-1)
    return jnp.concatenate([content, _for_heads(parts, self.num_heads)], axis=-1)

  @hk.name_like("__call__")
  def _heads(self, x: Array, width: int, name: str) -> Float[Array, "B N M F"]:
    x = Linear(width, use_bias=False, name=name)(x)
    return rearrange(x, "b n (m f) -> b n m f", m=self.num_heads)


class RelativeCrossBlock(hk.Module):
  """x += relative attention(norm(x), y); x += MLP(norm(x)). `y` is not normalised here."""

  def __init__(self, num_heads: int, *, qk_dim: int, mlp_dim: int, name: str):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.qk_dim = qk_dim
    self.mlp_dim = mlp_dim

  def __call__(
    self,
    x: Float[Array, "B Q E"],
    y: Float[Array, "B N C"],
    query_positions: Float[Array, "B Q 2"],
    positions: Float[Array, "B N 2"],
    mask: Mask = None,
  ) -> Float[Array, "B Q E"]:
    """Returns the updated queries; NaN marks vectors without position."""
    attention = RelativeAttention(
      self.num_heads, qk_dim=self.qk_dim, output_dim=x.shape[-1], name="cross_attention"
    )
    normed = LayerNorm(use_offset=False, name="attention_norm")(x)
    x = x + attention(normed, y, query_positions, positions, mask)
    return x + MLP(self.mlp_dim, name="mlp")(LayerNorm(use_offset=False, name="mlp_norm")(x))


def _waves(positions: Float[Array, "B N 2"]) -> tuple[Array, Array]:
  """Returns cosines and sines of each coordinate at each octave; without a position, those of 0."""
  at = jnp.where(jnp.isfinite(positions), positions, jnp.zeros_like(positions))
  phases = jnp.concatenate([at * (math.pi * 2.0**i) for i in range(_OCTAVES)], axis=-1)
  return jnp.cos(phases), jnp.sin(phases)


def _placed_waves(positions: Float[Array, "B N 2"], dtype: jax.typing.DTypeLike) -> Array:
  """Returns cosines, then sines, or zeros without a position."""
  waves = jnp.concatenate(_waves(positions), axis=-1)
  return jnp.where(jnp.isfinite(positions[..., :1]), waves, jnp.zeros_like(waves)).astype(dtype)


def _for_heads(x: Float[Array, "B N F"], num_heads: int) -> Float[Array, "B N M F"]:
  return jnp.broadcast_to(x[:, :, None], (*x.shape[:2], num_heads, x.shape[-1]))
