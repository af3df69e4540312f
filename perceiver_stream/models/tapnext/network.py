"""TAPNext: tokens of points and of patches in a recurrent vision transformer."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.core.lru import LruState
from perceiver_stream.core.recurrent_vit import RecurrentVit
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.models.point_trackers import PointTracks, active_slots
from perceiver_stream.models.tapnext.config import Config
from perceiver_stream.models.tapnext.heads import Heads, PointHeads, certainty
from perceiver_stream.models.tapnext.tables import read_table, resize_grid, sincos_table
from perceiver_stream.nn import LayerNorm, Linear, patchify, where_rows

FREE, UNKNOWN, QUERY, TRACKED = range(4)  # kinds of tokens of points


class State(NamedTuple):
  """State of a `TapNext`; fixed shapes.

  Attributes:
    layers: State of every layer's recurrence, patches first, then slots.
    active: Slots that track a query.
    new: Rows that have not seen a frame.
  """

  layers: tuple[LruState, ...]
  active: Bool[Array, "B Q"]
  new: Bool[Array, " B"]


class TapNext(hk.Module):
  """Point tokens and patch tokens share all blocks; heads read the tokens of points.

  Source: TAPNext 2025, 2504.05579, and TAPNext++; google-deepmind/tapnet, `ssm_vit.py` and
    `tapnext_torch.py`.
  """

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "tapnext"):
    super().__init__(name=name)
    config.validate()
    self.config = config
    self.backbone = RecurrentVit(config.in_space(), name="backbone")
    self.heads = PointHeads(config, name="heads")
    self.norm = LayerNorm(eps=config.eps, name="norm")

  @hk.name_like("__call__")
  def frame_tokens(self, frames: Float[Array, "T B H W 3"]) -> Float[Array, "T B N D"]:
    """Returns the tokens of patches; frames in [-1, 1].

    Differs: their positions start as those of queries at their centres, not at random; this holds for
    frames of the table's size, and others interpolate between them.
    """
    c, dim = self.config, self.config.backbone.dim
    tokens = Linear(dim, name="patches")(patchify(frames, c.patch))
    tokens = tokens.reshape(*frames.shape[:2], -1, dim)
    grid = (c.table[0] // c.patch, c.table[1] // c.patch)
    centres = sincos_table(*c.table, dim)[c.patch // 2 :: c.patch, c.patch // 2 :: c.patch]
    shape = (grid[0] * grid[1], dim)
    init = lambda shape, dtype: jnp.asarray(centres.reshape(shape), dtype)  # noqa: E731
    table = hk.get_parameter("positions", shape, jnp.float32, init)
    table = resize_grid(table.reshape(*grid, dim), c.grid()).reshape(-1, dim)
    return tokens + jnp.broadcast_to(table, tokens.shape)

  @hk.name_like("__call__")
  def point_tokens(
    self, kinds: Int[Array, "T B Q"], positions: Float[Array, "T B Q 2"]
  ) -> Float[Array, "T B Q D"]:
    """Returns the tokens of points.

    Args:
      kinds: `UNKNOWN` before a query, `QUERY` at it, `TRACKED` after it, `FREE` for none.
      positions: (row, column) in pixels of the table; read where a token is a query.
    """
    c, dim = self.config, self.config.backbone.dim
    init = hk.initializers.RandomNormal(dim**-0.5)
    get = lambda name: hk.get_parameter(name, (dim,), jnp.float32, init)  # noqa: E731
    table = jnp.asarray(sincos_table(*c.table, dim))
    query = read_table(table, positions, fade=c.flavour == "torch")
    like = lambda vector: jnp.broadcast_to(vector, query.shape)  # noqa: E731
    query = like(get("query_token")) + query
    unknown, tracked = like(get("unknown_token")), like(get("mask_token"))
    found = where_rows(kinds == QUERY, query, tracked)
    return where_rows(kinds == UNKNOWN, unknown, found)

  def initial_layers(self, batch_size: int, num_points: int) -> tuple[LruState, ...]:
    """Returns zeros."""
    rows, columns = self.config.grid()
    return self.backbone.initial_state(batch_size, rows * columns + num_points)

  def encode(
    self,
    frames: Float[Array, "T B H W 3"],
    kinds: Int[Array, "T B Q"],
    positions: Float[Array, "T B Q 2"],
    starts: tuple[Bool[Array, "T B"], Bool[Array, "T B Q"]],
    layers: tuple[LruState, ...],
  ) -> tuple[list[Float[Array, "T B Q D"]], tuple[LruState, ...]]:
    """Returns the point tokens after each block and after the final norm, and all states.

    Args:
      frames: In [-1, 1].
      kinds: See `point_tokens`; others do not attend to free slots.
      positions: See `point_tokens`.
      starts: Where the tokens of patches, and each slot, start without a past.
      layers: State before the first tick.
    """
    patches, points = self.frame_tokens(frames), self.point_tokens(kinds, positions)
    num, all_patches = patches.shape[2], jnp.ones(patches.shape[:3], bool)
    fresh = jnp.broadcast_to(starts[0][..., None], patches.shape[:3])
    outputs, states = self.backbone(
      jnp.concatenate([patches, points], axis=2),
      jnp.concatenate([fresh, starts[1]], axis=2),
      layers,
      jnp.concatenate([all_patches, kinds != FREE], axis=2),
    )
    each = [x[:, :, num:] for x in outputs]
    return [*each, self.norm(each[-1])], states

  def __call__(
    self,
    video: Float[Array, "B T H W 3"],
    queries: Float[Array, "B Q J 3"],
    valid: Bool[Array, "B Q J"],
    layers: tuple[LruState, ...] | None = None,
    step: Int[Array, ""] | int = 0,
  ) -> tuple[list[Heads], tuple[LruState, ...]]:
    """Returns the heads `[B, Q, T, ...]` after each block and the last norm, and the states.

    All queries are known from the first frame on: before its own frame, a query has the token of
    an unknown point, as in the released code.

    Args:
      video: In [-1, 1].
      queries: (frame, row, column) in pixels of the table: one known position or several.
      valid: False for padding.
      layers: State after the last call; None at the start of a video.
      step: Frames before this call.
    """
    frames = jnp.swapaxes(video, 0, 1)
    kinds, positions = kinds_of(queries, valid, len(frames), step)
    first = jnp.zeros(frames.shape[:2], bool).at[0].set(layers is None)
    starts = first, jnp.broadcast_to(first[..., None], kinds.shape)
    if layers is None:
      layers = self.initial_layers(frames.shape[1], kinds.shape[2])
    tokens, states = self.encode(frames, kinds, positions, starts, layers)
    heads = [jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), self.heads(x)) for x in tokens]
    return heads, jax.tree.map(lambda x: x[-1], states)

  def initial_state(self, batch_size: int, num_slots: int) -> State:
    """Returns the state before the first frame, all slots free."""
    free = jnp.zeros((batch_size, num_slots), bool)
    return State(self.initial_layers(batch_size, num_slots), free, jnp.ones(batch_size, bool))

  def track(
    self, state: State, frames: Float[Array, "T B H W 3"], commands: TrackCommands
  ) -> tuple[PointTracks, State]:
    """Returns the tracks after each of T ticks, and the state after the last; see `PointTracker`."""
    heads, active, state = self.follow(state, frames, commands)
    return self._tracks(heads, active), state

  def follow(
    self, state: State, frames: Float[Array, "T B H W 3"], commands: TrackCommands
  ) -> tuple[Heads, Bool[Array, "T B Q"], State]:
    """Returns the heads and the active slots after each tick, and the state after the last.

    A slot that starts has no past, and free slots are invisible to all tokens: the tracks before a
    later query are those without it. The released code gives no way to add a query.
    """
    tokens, active, after = self.follow_layers(state, frames, commands)
    return self.heads(tokens[-1]), active, after

  def follow_layers(
    self, state: State, frames: Float[Array, "T B H W 3"], commands: TrackCommands
  ) -> tuple[list[Float[Array, "T B Q D"]], Bool[Array, "T B Q"], State]:
    """Returns the point tokens after each block and the last norm, and further as `follow`."""
    active = active_slots(state.active, commands)
    kinds = jnp.where(commands.start & active, QUERY, jnp.where(active, TRACKED, FREE))
    size = jnp.asarray(self.config.table, jnp.float32)
    places = commands.position[..., ::-1]
    places = places * jnp.broadcast_to(size, places.shape)
    first = jnp.zeros(frames.shape[:2], bool).at[0].set(state.new)
    layers = state.layers
    starts = first, commands.start | first[..., None]
    tokens, states = self.encode(2 * frames - 1, kinds, places, starts, layers)
    last = jax.tree.map(lambda x: x[-1], states)
    return tokens, active, State(last, active[-1], jnp.zeros_like(state.new))

  def _tracks(self, heads: Heads, active: Bool[Array, "T B Q"]) -> PointTracks:
    c = self.config
    sure = certainty(heads.position, heads.logits, c.radius, swapped=c.flavour == "torch")
    shown = jax.nn.sigmoid(heads.visible)
    visible = shown > 0.5 if c.flavour == "torch" else shown * sure > 0.5
    size = jnp.asarray(c.table[::-1], jnp.float32)
    place = heads.position[..., ::-1]
    place = place / jnp.broadcast_to(size, place.shape)
    return PointTracks(
      where_rows(active, place, jnp.full_like(place, jnp.nan)), visible & active, sure
    )


def kinds_of(
  queries: Float[Array, "B Q J 3"],
  valid: Bool[Array, "B Q J"],
  ticks: int,
  step: Int[Array, ""] | int,
) -> tuple[Int[Array, "T B Q"], Float[Array, "T B Q 2"]]:
  """Returns kinds and positions of the tokens of points in a clip; see `TapNext.__call__`."""
  times = queries[..., 0].astype(jnp.int32) - step
  now = jnp.arange(ticks, dtype=jnp.int32).reshape(-1, 1, 1)
  shape = (ticks, *queries.shape[:2])
  unknown = valid[None, ..., 0] & (now < times[None, ..., 0])
  kinds = jnp.where(unknown, UNKNOWN, jnp.full(shape, TRACKED))
  positions = jnp.zeros((*shape, 2))
  for j in range(queries.shape[2]):
    here = valid[None, ..., j] & (now == times[None, ..., j])
    kinds = jnp.where(here, QUERY, kinds)
    positions = where_rows(here, jnp.broadcast_to(queries[..., j, 1:], positions.shape), positions)
  return kinds, positions
