"""Following points and boxes through the states of any recurrent model, tick by tick.

A tracker has a fixed number of slots. A slot is given a query, at any tick, follows it, and can be
given up and used again: shapes stay, nothing is compiled twice. Slots do not see each other, so
what one says does not depend on the others. Whether the model that is watched learns too is up to
who trains (`training.objectives.readout_base`).

What a tracker sees of a state is its latents and, if `use_frames`, the last two frames that the
state remembers. The former asks whether the latents follow things; the latter adds what motion
between two frames tells, and is the better tracker. Results say which of the two it was. With
`use_flow` a tracker sees the flow that a model with `pixels.Config.reconstruct_motion` decodes from
its latents alone.

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

SHAPES = {"points": 2, "boxes": 4}


@dataclass(kw_only=True)
class Config:
  """Sizes of a tracker.

  Attributes:
    follows: `"points"`, (x, y), or `"boxes"`, (x, y) of the centre, width and height.
    dim: Width of a slot's state.
    num_layers: Cross-attention blocks between slots and latents.
    num_heads: Their heads.
    num_octaves: Octaves of the position.
    use_frames: Whether it sees the remembered frames beside the latents.
    use_flow: Whether it sees what the model's own decoder makes of the latents: how each place has
      moved. Instead of frames.
    reach: Most that the latents may correct a position by in one tick, as a share of the picture.
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
  """What a tracker sees of a state.

  Attributes:
    latents: `[T, B, L, D]`, or without T.
    last: The newest frame, RGB in [0, 1]; None where the model remembers none.
    previous: The frame before.
    flow: Where each place was one tick before, (x, y) pixels, decoded from the latents; None if it
      was not asked for.
  """

  latents: Float[Array, "*T B L D"]
  last: Float[Array, "*T B H W 3"] | None = None
  previous: Float[Array, "*T B H W 3"] | None = None
  flow: Float[Array, "*T B H W 2"] | None = None


class TrackCommands(NamedTuple):
  """What to do with the slots at a tick, before looking at it.

  Attributes:
    start: Slots that are given a query at this tick.
    position: Where it is, in [0, 1] of the picture's width and height; (x, y) or a box.
    stop: Slots that are given up.
  """

  start: Bool[Array, "*T B Q"]
  position: Float[Array, "*T B Q K"]
  stop: Bool[Array, "*T B Q"]


class Tracks(NamedTuple):
  """What is said of each slot at a tick.

  Attributes:
    position: In [0, 1] as in the query; NaN in slots that follow nothing.
    visible: Logit that it can be seen.
    certainty: Logit that the position is about right.
  """

  position: Float[Array, "*T B Q K"]
  visible: Float[Array, "*T B Q"]
  certainty: Float[Array, "*T B Q"]

  def seen(self, threshold: float = 0.5) -> Bool[Array, "*T B Q"]:
    """Returns where a slot counts as visible.

    TAPIR and MooG multiply with the certainty; ours is learnt over longer spans than they score,
    where it is low, and would hide most of what is followed well.
    """
    return (jax.nn.sigmoid(self.visible) > threshold) & ~jnp.isnan(self.position[..., 0])


class TrackState(NamedTuple):
  """What is carried from tick to tick; fixed shapes."""

  position: Float[Array, "B Q K"]
  hidden: Float[Array, "B Q E"]
  active: Bool[Array, "B Q"]


class Tracker(NamedTuple):
  """A read-out as pure, jitted functions.

  Attributes:
    init: `(rng, sight) -> params`; `sight` without T.
    initial_state: `(batch_size, num_slots) -> TrackState`, all slots free.
    step: `(params, state, sight, orders) -> (Tracks, state)`.
    unroll: The same for T ticks, `[T, B, ...]`.
    config: What it was built from.
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

  def unroll(state: TrackState, sight: Features, orders: TrackCommands) -> Any:
    slots = Slots(config, name="tracker")
    seen = (*slots.look(sight), orders)
    return hk.dynamic_unroll(lambda now, before: slots(before, *now), seen, state)

  function = hk.without_apply_rng(hk.transform(unroll))

  def init(rng: Array, sight: Features) -> PyTree:
    batch = sight.latents.shape[0]
    start = jnp.zeros((1, batch, 1), bool)
    orders = TrackCommands(start, jnp.full((1, batch, 1, channels), 0.5), start)
    return function.init(
      rng, initial_state(batch, 1), jax.tree.map(lambda x: x[None], sight), orders
    )

  def step(params: PyTree, state: TrackState, sight: Features, orders: TrackCommands) -> Any:
    once = jax.tree.map(lambda x: x[None], (sight, orders))
    tracks, state = function.apply(params, state, *once)
    return jax.tree.map(lambda x: x[0], tracks), state

  return Tracker(jax.jit(init), initial_state, jax.jit(step), jax.jit(function.apply), config)


class Slots(hk.Module):
  """The update of all slots by one tick."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config

  def look(self, sight: Features) -> tuple[Array, Array]:
    """Returns latents and maps of what is where, `[T, B, H, W, F]`, made for all ticks at once.

    The first two channels are motion. Without frames and flow there is nothing in the maps.

    Raises:
      ValueError: Frames or flow are wanted and the sight has none.
    """
    if self.config.use_flow:
      if sight.flow is None:
        raise ValueError("read-out: use_flow=True, but the sight has no flow; give Features.flow.")
      return sight.latents, sight.flow
    if not self.config.use_frames:
      ticks, rows = sight.latents.shape[:2]
      return sight.latents, jnp.zeros((ticks, rows, 1, 1, 2))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), sight)
    maps = seen_maps(flat)
    return sight.latents, maps.reshape(*sight.latents.shape[:2], *maps.shape[1:])

  def __call__(
    self, state: TrackState, latents: Array, maps: Array, orders: TrackCommands
  ) -> tuple[Tracks, TrackState]:
    """Returns what the slots say at this tick, and their state after it."""
    asked = jnp.clip(orders.position, 0.0, 1.0)
    fresh = self._first(asked, maps)
    hidden = where_rows(orders.start, fresh, state.hidden)
    active = (state.active | orders.start) & ~orders.stop
    moved = self._moved(state.position, maps)
    moved = where_rows(orders.start, asked, moved)
    hidden, words = self._listen(hidden, moved, latents, maps)
    correction = self.config.reach * jnp.tanh(words[..., 2:])
    position = jnp.clip(moved + where_rows(orders.start, 0.0, correction), 0.0, 1.0)
    known = where_rows(~active, jnp.nan, position)
    tracks = Tracks(known, words[..., 0], words[..., 1])
    return tracks, TrackState(position, hidden, active)

  def _sees_motion(self) -> bool:
    return self.config.use_frames or self.config.use_flow

  @hk.name_like("__call__")
  def _first(self, position: Array, maps: Array) -> Float[Array, "B Q E"]:
    """Returns the state of slots that start, from where they are and what is seen there."""
    words = self._words(position, maps)
    return MLP(self.config.dim, output_dim=self.config.dim, name="first")(words)

  @hk.name_like("__call__")
  def _moved(self, position: Array, maps: Array) -> Array:
    """Returns positions carried on by the motion between the last two frames, if it is seen.

    The motion says where a place was; where a point went solves p = p₀ - motion(p).
    """
    if not self._sees_motion():
      return position
    size = jnp.asarray([maps.shape[2], maps.shape[1]], jnp.float32).reshape(1, 1, 2)
    centre = position[..., :2]
    now = centre
    for _ in range(3):
      now = centre - _sample(maps[..., :2], now) / size
    return position.at[..., :2].set(jnp.clip(now, 0.0, 1.0))

  def _words(self, position: Array, maps: Array) -> Float[Array, "B Q F"]:
    """Returns the position, and what is seen there and at eight places around it."""
    where = jnp.asarray(fourier_octaves(2 * position - 1, self.config.num_octaves))
    if not self._sees_motion():
      return where
    size = jnp.asarray([maps.shape[2], maps.shape[1]], jnp.float32).reshape(1, 1, 2)
    steps = [(dx, dy) for dy in (-2.0, 0.0, 2.0) for dx in (-2.0, 0.0, 2.0)]
    places = (position[..., :2] + jnp.asarray(s).reshape(1, 1, 2) / size for s in steps)
    return jnp.concatenate([where, *(_sample(maps, place) for place in places)], axis=-1)

  @hk.name_like("__call__")
  def _listen(
    self, hidden: Array, position: Array, latents: Array, maps: Array
  ) -> tuple[Float[Array, "B Q E"], Float[Array, "B Q K"]]:
    """Returns the slots' next state, and what they say: two logits and a correction."""
    c = self.config
    place = MLP(c.dim, output_dim=c.dim, name="place")(self._words(position, maps))
    x = LayerNorm(name="hidden_norm")(hidden) + place
    for i in range(c.num_layers):
      block = CrossBlock(c.num_heads, qk_dim=c.dim, mlp_dim=2 * c.dim, name=f"latents_{i}")
      x = block(x, latents)
    heard = LayerNorm(name="output_norm")(x)
    gate = jax.nn.sigmoid(Linear(c.dim, name="gate")(heard))
    hidden = hidden + gate * (jnp.tanh(Linear(c.dim, name="update")(heard)) - hidden)
    zero = hk.initializers.Constant(0.0)
    said = MLP(c.dim, output_dim=c.dim, name="said")(heard)
    return hidden, Linear(2 + SHAPES[c.follows], w_init=zero, name="output")(said)


def seen_maps(sight: Features) -> Float[Array, "B H W 9"]:
  """Returns what the frames of a sight show at each pixel: motion, misfit, RGB and its change.

  Raises:
    ValueError: The sight has no frames.
  """
  if sight.last is None or sight.previous is None:
    raise ValueError(
      "read-out: use_frames=True, but this model's state remembers no frames; use "
      "use_frames=False, or give Features.last and Features.previous."
    )
  motion = local_motion(sight.previous, sight.last)
  return jnp.concatenate([motion, sight.last, sight.last - sight.previous], axis=-1)


def _sample(maps: Float[Array, "B H W C"], position: Float[Array, "B Q 2"]) -> Array:
  """Returns the maps at (x, y) in [0, 1]: pixel (i, j) has its centre at (j + .5, i + .5)."""
  height, width = maps.shape[1:3]
  return sample_bilinear(maps, position[..., 1] * height - 0.5, position[..., 0] * width - 0.5)
