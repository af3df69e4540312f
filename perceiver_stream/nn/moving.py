"""Cross-attention to vectors that have a position and a velocity.

A query has a position z and a displacement d in ticks. The logit of a vector with position p and
velocity v has the term -|z - p - d v|² / (2 r² (1 + d)): the distance from its position at that
time, with a variance that grows as that of a random walk. This term is a product of features of
the query and of the vector, so nothing of size queries × vectors × 2 is stored.

Source: ours. Nearest relative: invariant slot attention (2302.04973; a decoder relative to slots).
"""

import math
from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.attention import attend, attention_weights
from perceiver_stream.nn.capture import record
from perceiver_stream.nn.layers import MLP, LayerNorm, Linear, RMSNorm

_SPACING = 0.55  # initial radius, in distances between neighbours of a grid of as many vectors


class MovingPoints(NamedTuple):
  """Positions and velocities of N vectors.

  Attributes:
    position: (y, x) in [-1, 1]; any value where not `placed`.
    velocity: Change of the position per tick; 0 where not `placed`.
    log_weight: Added to the logits of attention.
    placed: True for vectors that have a position; the same number in every row.
  """

  position: Float[Array, "B N 2"]
  velocity: Float[Array, "B N 2"]
  log_weight: Float[Array, "B N"]
  placed: Bool[Array, " N"]

  def features(self) -> Float[Array, "B N 9"]:
    """Returns the factors of `distance_features` for each vector; its log-weight is the last."""
    p, v = self.position, self.velocity
    one = jnp.ones_like(p[..., :1])
    dot = lambda x, y: jnp.sum(x * y, axis=-1, keepdims=True)  # noqa: E731
    parts = jnp.concatenate([p, v, dot(p, p), dot(p, v), dot(v, v), one], axis=-1)
    placed = jnp.broadcast_to(self.placed[None, :, None], parts.shape)
    parts = jnp.where(placed, parts, jnp.zeros_like(parts))
    return jnp.concatenate([parts, self.log_weight[..., None]], axis=-1)


def distance_features(
  position: Float[Array, "Q d"], ticks: Float[Array, " Q"], sharpness: Float[Array, " M"]
) -> Float[Array, "Q M 9"]:
  """Returns features whose product with `MovingPoints.features` is the bias of attention.

  Queries that have no position in the image (d is not 2) have no distance term.

  Args:
    position: (y, x) of the queries in [-1, 1].
    ticks: Displacements of the queries.
    sharpness: 1 / r² of each head.
  """
  count, heads = position.shape[0], sharpness.shape[0]
  one = jnp.ones((count, 1))
  if position.shape[1] != 2:
    return jnp.broadcast_to(jnp.pad(one, ((0, 0), (8, 0)))[:, None], (count, heads, 9))
  d = ticks[:, None]
  square = jnp.sum(jnp.square(position), axis=-1, keepdims=True)
  parts = jnp.concatenate([2 * position, 2 * d * position, -one, -2 * d, -(d**2), -square], axis=-1)
  parts = (parts / (2 * (1 + d)))[:, None] * sharpness[None, :, None]
  return jnp.concatenate([parts, jnp.ones((count, heads, 1))], axis=-1)


def sharpness(points: MovingPoints, num_heads: int) -> Float[Array, " M"]:
  """Returns 1 / r² of each head; r is learned relative to the spacing of the vectors."""
  count = jnp.sum(points.placed.astype(jnp.float32))
  first = hk.initializers.Constant(-2 * math.log(_SPACING))
  log = hk.get_parameter("sharpness", (num_heads,), jnp.float32, first)
  return jnp.exp(log) * jnp.maximum(count, 1.0) / 4  # a grid of N vectors has spacing 2 / sqrt(N)


class MovingAttention(hk.Module):
  """Multi-head attention to vectors with positions and velocities.

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
    points: MovingPoints,
    position: Float[Array, "Q d"],
    ticks: Float[Array, " Q"],
  ) -> Float[Array, "B Q K"]:
    """Returns the output of each query; see `MovingPoints` and `distance_features`."""
    q = RMSNorm(name="query_norm")(self._heads(queries, "query"))
    k = RMSNorm(name="key_norm")(self._heads(keys_values, "key"))
    v = self._heads(keys_values, "value")
    # Distances are differences of large products, so logits are float32.
    q, k = q.astype(jnp.float32) / math.sqrt(q.shape[-1]), k.astype(jnp.float32)
    near = distance_features(position, ticks, sharpness(points, self.num_heads))
    near = jnp.broadcast_to(near[None], (q.shape[0], *near.shape))
    known = points.features()[:, :, None]
    known = jnp.broadcast_to(known, (*known.shape[:2], self.num_heads, known.shape[-1]))
    q, k = jnp.concatenate([q, near], axis=-1), jnp.concatenate([k, known], axis=-1)
    q = q * math.sqrt(q.shape[-1])  # `attend` divides by it
    record(self.module_name, lambda: jnp.mean(attention_weights(q, k, None), axis=1))
    found = rearrange(attend(q, k, v), "b q m g -> b q (m g)")
    return Linear(self.output_dim, name="output")(found)

  @hk.name_like("__call__")
  def _heads(self, x: Array, name: str) -> Float[Array, "B N M F"]:
    x = Linear(self.qk_dim, use_bias=False, name=name)(x)
    return rearrange(x, "b n (m f) -> b n m f", m=self.num_heads)


class MovingCrossBlock(hk.Module):
  """x += attention(norm(x), norm(y)) by distance from moving points; x += MLP(norm(x))."""

  def __init__(self, num_heads: int, *, qk_dim: int, mlp_dim: int, name: str):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.qk_dim = qk_dim
    self.mlp_dim = mlp_dim

  def __call__(
    self,
    x: Float[Array, "B Q E"],
    y: Float[Array, "B N C"],
    points: MovingPoints,
    position: Float[Array, "Q d"],
    ticks: Float[Array, " Q"],
  ) -> Float[Array, "B Q E"]:
    """Returns the updated queries."""
    attention = MovingAttention(
      self.num_heads, qk_dim=self.qk_dim, output_dim=x.shape[-1], name="attention"
    )
    normed = LayerNorm(name="query_norm")(x)
    x = x + attention(normed, LayerNorm(name="input_norm")(y), points, position, ticks)
    return x + MLP(self.mlp_dim, name="mlp")(LayerNorm(name="mlp_norm")(x))
