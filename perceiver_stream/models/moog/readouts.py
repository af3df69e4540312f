"""Read-outs of MooG's states: point and box tracks of a clip, points frame by frame, depth.

Two kinds are published. The checkpoint's heads attend to all frames of a clip at once and are
therefore not causal. The training code's point read-out runs frame by frame with its own state.

Source: representations4d, `moog/modules.py` and the inference notebook.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.models.moog.config import StackConfig
from perceiver_stream.models.moog.network import Stack
from perceiver_stream.nn import (
  MLP,
  LayerNorm,
  LearnedPositions,
  Linear,
  attend,
  fourier_octaves,
  where_rows,
)
from perceiver_stream.types import Octaves, Positive, Size


@dataclass(kw_only=True)
class ClipConfig:
  """Sizes of a `ClipReadout`; defaults are the checkpoint's point head.

  Attributes:
    num_frames: Frames of a clip.
    frames_per_query: Frames decoded from one copy of a query; the copies are called tiles.
    channels: Numbers per frame: x, y, visible, certainty (a head may lack the last ones), or four
      for a box.
    dim: Width of the attention.
    num_heads: Heads of the attention.
    query_dim: Width of a query before the attention.
    num_octaves: Octaves of the query's coordinates.
  """

  num_frames: Size = 16
  frames_per_query: Size = 2
  channels: Size = 4
  dim: Size = 1024
  num_heads: Size = 8
  query_dim: Size = 512
  num_octaves: Octaves = 16

  @property
  def num_tiles(self) -> int:
    """Number of copies of a query."""
    return self.num_frames // self.frames_per_query


class ClipReadout(hk.Module):
  """Cross-attention of queries to the latents of all frames of a clip; outputs for every frame.

  Differs: raw outputs are equal. The released box demo scales (y, x) by (width, height); results
    here
  are in the query's own units.
  """

  def __init__(self, config: ClipConfig, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self,
    features: Float[Array, "B T L D"],
    queries: Float[Array, "B Q d"],
    positions: Float[Array, "B Q P"] | None = None,
  ) -> Float[Array, "B T Q K"]:
    """Returns `channels` raw numbers for every frame and query.

    Args:
      features: States of all frames.
      queries: Coordinates in [0, 1] at the first frame: points (x, y) or boxes, as in training.
      positions: Replaces the computed Fourier features of the queries.
    """
    c = self.config
    memory = self._memory(features)
    tile_queries = self._queries(queries, positions)  # [B, Q * tiles, dim]
    key, value = (self._heads(Linear(c.dim, name=name)(memory)) for name in ("key", "value"))
    gathered = attend(self._heads(tile_queries), key, value)
    gathered = gathered.reshape(*tile_queries.shape[:2], c.dim)
    token = tile_queries + Linear(c.dim, name="attention_output")(gathered)
    hidden = LayerNorm(name="mlp_norm")(token)
    token = token + MLP(4 * c.dim, name="mlp")(hidden)
    outputs = Linear(c.frames_per_query * c.channels, name="output")(token)
    batch, num_queries = queries.shape[:2]
    outputs = outputs.reshape(batch, num_queries, c.num_frames, c.channels)
    return jnp.swapaxes(outputs, 1, 2)

  @hk.name_like("__call__")
  def _memory(self, features: Array) -> Float[Array, "B N D"]:
    batch, frames, latents, dim = features.shape
    if frames != self.config.num_frames:
      raise ValueError(
        f"ClipReadout '{self.name}': features have {frames} frames, expected exactly "
        f"{self.config.num_frames}; cut the video into clips of that length."
      )
    when = LearnedPositions(frames, dim, name="frame")()
    when = jax.lax.broadcast_in_dim(when, features.shape, (1, 3))
    return (LayerNorm(name="feature_norm")(features) + when).reshape(batch, frames * latents, dim)

  @hk.name_like("__call__")
  def _queries(self, queries: Array, positions: Array | None) -> Float[Array, "B N C"]:
    c = self.config
    if positions is None:
      positions = jnp.asarray(fourier_octaves(queries, c.num_octaves))
    x = MLP(c.query_dim, output_dim=c.query_dim, name="query_mlp")(positions)
    shape = (*x.shape[:2], c.num_tiles, c.query_dim)
    x = jnp.broadcast_to(x[:, :, None], shape)
    if c.num_tiles > 1:
      tile = LearnedPositions(c.num_tiles, c.query_dim, name="tile")()
      x = x + jax.lax.broadcast_in_dim(tile, shape, (2, 3))
    x = x.reshape(shape[0], shape[1] * shape[2], c.query_dim)
    return Linear(c.dim, name="query")(x)

  def _heads(self, x: Array) -> Float[Array, "B N M F"]:
    return x.reshape(*x.shape[:2], self.config.num_heads, -1)


class Points(NamedTuple):
  """Tracks of points.

  Attributes:
    values: Coordinates in [0, 1], `[..., Q, 2]`, in the order of the queries.
    visible: Logit that the point is visible, `[..., Q, 1]`.
    certainty: Logit that the coordinates are accurate, `[..., Q, 1]`.
  """

  values: Float[Array, "*N Q 2"]
  visible: Float[Array, "*N Q 1"]
  certainty: Float[Array, "*N Q 1"]

  def seen(self, threshold: float = 0.5) -> Bool[Array, "*N Q 1"]:
    """Returns True for points that count as visible."""
    return jax.nn.sigmoid(self.visible) * jax.nn.sigmoid(self.certainty) > threshold


def as_points(outputs: Float[Array, "*N Q K"]) -> Points:
  """Returns tracks from the channels of a point head; a missing logit is infinite (certain)."""
  sure = jnp.full_like(outputs[..., :2], jnp.inf)
  logits = jnp.concatenate([outputs[..., 2:], sure], axis=-1)
  return Points(jax.nn.sigmoid(outputs[..., :2]), logits[..., :1], logits[..., 1:2])


@dataclass(kw_only=True)
class PointConfig:
  """Sizes of a `PointReadout`; defaults are the training code's.

  Attributes:
    stack: Sizes of its cross-attention blocks.
    dim: Width of a query's state.
    num_octaves: Octaves of the query's coordinates.
    hidden_dim: Width inside the blocks.
    first_dim: Hidden width of the network that computes the initial state of a point.
    predict_dim: Hidden width of the network that predicts the state at the next frame.
    state_eps: Added to the variance when the state is normalised.
  """

  stack: StackConfig = field(
    default_factory=lambda: StackConfig(num_layers=3, qkv_dim=512, num_heads=8)
  )
  dim: Size = 512
  num_octaves: Octaves = 16
  hidden_dim: Size = 512
  first_dim: Size = 512
  predict_dim: Size = 512
  state_eps: Positive = 1e-4


class PointStep(NamedTuple):
  """One frame of a `PointReadout`: its tracks, and the states before and after the frame."""

  points: Points
  state: Float[Array, "*T B Q E"]
  corrected: Float[Array, "*T B Q E"]


class PointReadout(hk.Module):
  """Causal point tracking frame by frame, with one state per point."""

  def __init__(self, config: PointConfig, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self,
    features: Float[Array, "T B L D"],
    queries: Float[Array, "B Q 2"],
    starts: Bool[Array, "T B Q"],
    state: Float[Array, "B Q E"] | None = None,
    positions: Float[Array, "B Q P"] | None = None,
  ) -> tuple[PointStep, Float[Array, "B Q E"]]:
    """Returns the tracks of T frames, `[T, B, Q, …]`, and the state after the last.

    Args:
      features: Predicted and corrected latents, concatenated; no gradient flows into them.
      queries: Initial positions of the points, in [0, 1].
      starts: True for points that start at this frame: their state is set from their query.
      state: From the last call; None for points that start with the first frame.
      positions: Replaces the computed Fourier features of the queries.
    """
    first = self.first_state(queries, positions)
    state = first if state is None else state
    step = lambda now, state: self._step(now[0], now[1], first, state)  # noqa: E731
    unrolled: Any = hk.dynamic_unroll(step, (jax.lax.stop_gradient(features), starts), state)
    return unrolled

  @hk.name_like("__call__")
  def first_state(
    self, queries: Float[Array, "B Q 2"], positions: Float[Array, "B Q P"] | None = None
  ) -> Float[Array, "B Q E"]:
    """Returns the initial states of points."""
    c = self.config
    if positions is None:
      positions = jnp.asarray(fourier_octaves(queries, c.num_octaves))
    return MLP(c.first_dim, output_dim=c.dim, name="first")(positions)

  @hk.name_like("__call__")
  def _step(
    self, features: Array, starts: Array, first: Array, state: Array
  ) -> tuple[PointStep, Array]:
    c = self.config
    state = where_rows(starts, first, state)
    stack = Stack(c.stack, hidden_dim=c.hidden_dim, output_dim=c.dim, use_self=False, name="stack")
    corrected = state + stack(state, features)
    values = jax.nn.sigmoid(MLP(c.dim, output_dim=2, name="values")(corrected))
    logits = MLP(c.dim, output_dim=2, name="logits")(corrected)
    predicted = corrected + MLP(c.predict_dim, name="predict")(corrected)
    predicted = LayerNorm(use_offset=False, eps=c.state_eps, name="state_norm")(predicted)
    points = Points(values, logits[..., :1], logits[..., 1:])
    return PointStep(points, predicted, corrected), predicted
