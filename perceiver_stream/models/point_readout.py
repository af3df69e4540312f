"""Online tracking of points and boxes from the states of any recurrent model.

A tracker has a fixed number of slots. A slot can start a query at any tick, track it, stop, and be
used again; shapes are constant, so nothing is compiled twice. Slots are independent of each other.
The objective decides if the observed model is trained too (`training.objectives.readout_base`).

The input of a tracker is the latents and, with `use_frames`, the last two frames in the state.
Without frames it measures if latents follow objects; with frames it also uses the motion between
them and is the better tracker. Results state which of the two was used. With `use_flow` the input
is the latents and the flow that a model with `pixels.Config.reconstruct_motion` decodes from its
latents only.

Source: an autoregressive read-out by cross-attention is MooG's (2411.05927), the frame by frame
update of a position and two logits TAPIR's and TAPNext's; frames and their motion are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.nn import (
  MLP,
  CrossBlock,
  LayerNorm,
  Linear,
  fourier_octaves,
  local_motion,
  sample_bilinear,
  where_rows,
)
from perceiver_stream.types import Layers, NonNegative, Octaves, Size
from perceiver_stream.utils import moved

SHAPES = {"points": 2, "boxes": 4}


@dataclass(kw_only=True)
class Config:
  """Sizes of a tracker.

  Attributes:
    follows: `"points"`, (x, y), or `"boxes"`, (x, y) of the centre, width and height.
    dim: Width of a slot's state.
    num_layers: Cross-attention blocks between slots and latents.
    num_heads: Attention heads of these blocks.
    num_octaves: Octaves of the position.
    use_frames: Read the last two frames in the state, in addition to the latents.
    use_flow: Read the flow that the model's own decoder computes from the latents, instead of
      frames.
    reach: Maximum correction of a position in one tick, as a fraction of the image.
  """

  follows: str = "points"
  dim: Size = 128
  num_layers: Layers = 1
  num_heads: Size = 4
  num_octaves: Octaves = 6
  use_frames: bool = True
  use_flow: bool = False
  reach: NonNegative = 0.25

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.follows not in SHAPES:
      raise ValueError(f"read-out: follows={self.follows!r}; use one of {sorted(SHAPES)}.")
    if self.dim % self.num_heads:
      raise ValueError(
        f"read-out: dim={self.dim} is not a multiple of num_heads={self.num_heads}; change one."
      )
    if self.use_frames and self.use_flow:
      raise ValueError(
        "read-out: use_frames and use_flow are both on; use one, frames or decoded motion."
      )


class Features(NamedTuple):
  """Features of a model's state that a read-out uses.

  Attributes:
    latents: `[T, B, L, D]`, or without T.
    last: The newest frame, RGB in [0, 1]; None if the state has no frames.
    previous: The frame before it.
    flow: Offset (x, y) in pixels from each pixel to its position one tick before, decoded from the
      latents; None if it was not requested.
  """

  latents: Float[Array, "*T B L D"]
  last: Float[Array, "*T B H W 3"] | None = None
  previous: Float[Array, "*T B H W 3"] | None = None
  flow: Float[Array, "*T B H W 2"] | None = None


class TrackCommands(NamedTuple):
  """Commands to the slots, executed before the update of a tick.

  Attributes:
    start: Slots that start a query at this tick.
    position: Position of the query, in [0, 1] of the image's width and height; (x, y) or a box.
    stop: Slots that stop.
  """

  start: Bool[Array, "*T B Q"]
  position: Float[Array, "*T B Q K"]
  stop: Bool[Array, "*T B Q"]


class Tracks(NamedTuple):
  """Output of each slot at a tick.

  Attributes:
    position: Position in [0, 1] as in the query; NaN in inactive slots.
    visible: Logit that the point or box is visible.
    certainty: Logit that the position is accurate.
  """

  position: Float[Array, "*T B Q K"]
  visible: Float[Array, "*T B Q"]
  certainty: Float[Array, "*T B Q"]

  def seen(self, threshold: float = 0.5) -> Bool[Array, "*T B Q"]:
    """Returns True for slots that count as visible.

    Differs: TAPIR and MooG multiply by the certainty. Ours is trained over longer spans than they
      score,
    for which it is low, and would mark most accurate tracks as hidden.
    """
    return (jax.nn.sigmoid(self.visible) > threshold) & ~jnp.isnan(self.position[..., 0])


class TrackState(NamedTuple):
  """Recurrent state of a tracker; fixed shapes."""

  position: Float[Array, "B Q K"]
  hidden: Float[Array, "B Q E"]
  active: Bool[Array, "B Q"]


class Tracker(NamedTuple):
  """A read-out as pure, jitted functions.

  Attributes:
    init: `(rng, features) -> params`; `features` without T.
    initial_state: `(batch_size, num_slots) -> TrackState`, all slots free.
    step: `(params, state, features, commands) -> (Tracks, state)`.
    unroll: As `step` for T ticks, `[T, B, ...]`.
    config: Config from which it was built.
  """

  init: Callable[..., PyTree]
  initial_state: Callable[..., TrackState]
  step: Callable[..., tuple[Tracks, TrackState]]
  unroll: Callable[..., tuple[Tracks, TrackState]]
  config: Config


def build(config: Config) -> Tracker:
  """Returns the tracker that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  channels = SHAPES[config.follows]

  def initial_state(batch_size: int, num_slots: int) -> TrackState:
    return TrackState(
      jnp.full((batch_size, num_slots, channels), 0.5, jnp.float32),
      jnp.zeros((batch_size, num_slots, config.dim)),
      jnp.zeros((batch_size, num_slots), bool),
    )

  def unroll(state: TrackState, features: Features, commands: TrackCommands) -> Any:
    slots = Slots(config, name="tracker")
    inputs = (*slots.feature_maps(features), commands)
    return hk.dynamic_unroll(lambda now, before: slots(before, *now), inputs, state)

  function = hk.without_apply_rng(hk.transform(unroll))

  def init(rng: Array, features: Features) -> PyTree:
    batch = features.latents.shape[0]
    start = jnp.zeros((1, batch, 1), bool)
    commands = TrackCommands(start, jnp.full((1, batch, 1, channels), 0.5), start)
    return function.init(
      rng, initial_state(batch, 1), jax.tree.map(lambda x: x[None], features), commands
    )

  def step(params: PyTree, state: TrackState, features: Features, commands: TrackCommands) -> Any:
    once = jax.tree.map(lambda x: x[None], (features, commands))
    tracks, state = function.apply(params, state, *once)
    return jax.tree.map(lambda x: x[0], tracks), state

  return Tracker(jax.jit(init), initial_state, jax.jit(step), jax.jit(function.apply), config)


class Slots(hk.Module):
  """The update of all slots by one tick."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config

  def feature_maps(self, features: Features) -> tuple[Array, Array]:
    """Returns the latents and feature maps `[T, B, H, W, F]`, computed for all ticks at once.

    The first two channels are motion. Without frames and flow, the maps are zeros.

    Raises:
      ValueError: The config requires frames or flow and the features have none.
    """
    if self.config.use_flow:
      if features.flow is None:
        raise ValueError(
          "read-out: use_flow=True, but the features have no flow; give Features.flow."
        )
      return features.latents, features.flow
    if not self.config.use_frames:
      ticks, rows = features.latents.shape[:2]
      return features.latents, jnp.zeros((ticks, rows, 1, 1, 2))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), features)
    maps = frame_features(flat)
    return features.latents, maps.reshape(*features.latents.shape[:2], *maps.shape[1:])

  def __call__(
    self, state: TrackState, latents: Array, maps: Array, commands: TrackCommands
  ) -> tuple[Tracks, TrackState]:
    """Returns the tracks of this tick and the state after it."""
    start_position = jnp.clip(commands.position, 0.0, 1.0)
    initial = self._first(start_position, maps)
    hidden = where_rows(commands.start, initial, state.hidden)
    active = (state.active | commands.start) & ~commands.stop
    moved = self._moved(state.position, maps)
    moved = where_rows(commands.start, start_position, moved)
    hidden, outputs = self._attend(hidden, moved, latents, maps)
    correction = self.config.reach * jnp.tanh(outputs[..., 2:])
    position = jnp.clip(moved + where_rows(commands.start, 0.0, correction), 0.0, 1.0)
    reported = where_rows(~active, jnp.nan, position)
    tracks = Tracks(reported, outputs[..., 0], outputs[..., 1])
    return tracks, TrackState(position, hidden, active)

  def _reads_motion(self) -> bool:
    return self.config.use_frames or self.config.use_flow

  @hk.name_like("__call__")
  def _first(self, position: Array, maps: Array) -> Float[Array, "B Q E"]:
    """Returns the state of slots that start, from their position and the features there."""
    local = self._local_features(position, maps)
    return MLP(self.config.dim, output_dim=self.config.dim, name="first")(local)

  @hk.name_like("__call__")
  def _moved(self, position: Array, maps: Array) -> Array:
    """Returns positions moved by the motion between the last two frames, if it is an input.

    The motion map points backwards, so the new position p solves p = p₀ - motion(p).
    """
    if not self._reads_motion():
      return position
    size = jnp.asarray([maps.shape[2], maps.shape[1]], jnp.float32).reshape(1, 1, 2)
    centre = position[..., :2]
    now = centre
    for _ in range(3):
      now = centre - _sample(maps[..., :2], now) / size
    return position.at[..., :2].set(jnp.clip(now, 0.0, 1.0))

  def _local_features(self, position: Array, maps: Array) -> Float[Array, "B Q F"]:
    """Returns the encoded position, and the feature maps there and at eight points around it."""
    where = jnp.asarray(fourier_octaves(2 * position - 1, self.config.num_octaves))
    if not self._reads_motion():
      return where
    size = jnp.asarray([maps.shape[2], maps.shape[1]], jnp.float32).reshape(1, 1, 2)
    steps = [(dx, dy) for dy in (-2.0, 0.0, 2.0) for dx in (-2.0, 0.0, 2.0)]
    points = (position[..., :2] + jnp.asarray(s).reshape(1, 1, 2) / size for s in steps)
    return jnp.concatenate([where, *(_sample(maps, point) for point in points)], axis=-1)

  @hk.name_like("__call__")
  def _attend(
    self, hidden: Array, position: Array, latents: Array, maps: Array
  ) -> tuple[Float[Array, "B Q E"], Float[Array, "B Q K"]]:
    """Returns the next hidden state and the outputs: two logits and a correction."""
    c = self.config
    point = MLP(c.dim, output_dim=c.dim, name="place")(self._local_features(position, maps))
    x = LayerNorm(name="hidden_norm")(hidden) + point
    for i in range(c.num_layers):
      block = CrossBlock(c.num_heads, qk_dim=c.dim, mlp_dim=2 * c.dim, name=f"latents_{i}")
      x = block(x, latents)
    output = LayerNorm(name="output_norm")(x)
    gate = jax.nn.sigmoid(Linear(c.dim, name="gate")(output))
    hidden = hidden + gate * (jnp.tanh(Linear(c.dim, name="update")(output)) - hidden)
    zero = hk.initializers.Constant(0.0)
    hidden_output = MLP(c.dim, output_dim=c.dim, name="said")(output)
    return hidden, Linear(2 + SHAPES[c.follows], w_init=zero, name="output")(hidden_output)


def frame_features(features: Features) -> Float[Array, "B H W 9"]:
  """Returns feature maps of the last two frames: motion, matching residual, RGB and its change.

  Raises:
    ValueError: The features have no frames.
  """
  if features.last is None or features.previous is None:
    raise ValueError(
      "read-out: use_frames=True, but this model's state has no frames; use "
      "use_frames=False, or give Features.last and Features.previous."
    )
  motion = local_motion(features.previous, features.last)
  return jnp.concatenate([motion, features.last, features.last - features.previous], axis=-1)


def _sample(maps: Float[Array, "B H W C"], position: Float[Array, "B Q 2"]) -> Array:
  """Returns the maps at (x, y) in [0, 1]: pixel (i, j) has its centre at (j + .5, i + .5)."""
  height, width = maps.shape[1:3]
  return sample_bilinear(maps, position[..., 1] * height - 0.5, position[..., 0] * width - 0.5)


__getattr__ = moved.renamed_names(__name__, {"Sight": "models.point_readout.Features"})
