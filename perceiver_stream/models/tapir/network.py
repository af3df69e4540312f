"""Online TAPIR: features, a first guess from a cost volume, and refinements by a causal mixer."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.models.point_trackers import PointTracks, active_slots
from perceiver_stream.models.tapir import mixer
from perceiver_stream.models.tapir.config import Config
from perceiver_stream.models.tapir.features import Extractor, FeatureMaps, read_map
from perceiver_stream.models.tapir.mixer import Mixer, MixerState
from perceiver_stream.nn import Linear, where_rows
from perceiver_stream.nn.conv import Conv2D

NEAR = 5.0  # cells around the best one that count in the first guess
REACH = 3  # cells around a position in which a refinement looks


class QueryFeatures(NamedTuple):
  """Features at the query of each slot, at one size."""

  high: Float[Array, "*T B Q C"]
  low: Float[Array, "*T B Q D"]


class Guess(NamedTuple):
  """An estimate of the tracks.

  Attributes:
    position: (x, y) in pixels of the initial size.
    occluded: Logit that the point is hidden.
    distant: Logit that the position is far from the truth.
  """

  position: Float[Array, "T B Q 2"]
  occluded: Float[Array, "T B Q"]
  distant: Float[Array, "T B Q"]


class State(NamedTuple):
  """State of a `Tapir`; fixed shapes.

  Attributes:
    queries: Query features at the initial size, then at each size of refinement.
    mixers: States of the mixer at each size of refinement, `[I, L, B * Q, ...]` by iteration.
    active: Slots that track a query.
  """

  queries: tuple[QueryFeatures, ...]
  mixers: tuple[MixerState, ...]
  active: Bool[Array, "B Q"]


class Tapir(hk.Module):
  """Tracks of points that are independent of each other.

  Source: TAPIR 2023, 2306.08637, and BootsTAP, 2402.00847; google-deepmind/tapnet,
    `torch/tapir_model.py` with causal convolutions.
  """

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "tapir"):
    super().__init__(name=name)
    config.validate()
    self.config = config
    self.extractor = Extractor(config, name="features")
    self.mixer = Mixer(config, name="mixer")

  def initial_state(self, batch_size: int, num_slots: int) -> State:
    """Returns the state before the first frame, all slots free."""
    c, sizes = self.config, self.config.refined_sizes()
    shape = (batch_size, num_slots)
    blank = QueryFeatures(jnp.zeros((*shape, c.high_dim)), jnp.zeros((*shape, c.low_dim)))
    one = mixer.initial_state(c, batch_size * num_slots)
    each = jax.tree.map(lambda x: jnp.stack([x] * c.num_iterations), one)
    return State((blank,) * (1 + len(sizes)), (each,) * len(sizes), jnp.zeros(shape, bool))

  def maps(self, frames: Float[Array, "N H W 3"]) -> list[FeatureMaps]:
    """Returns the feature maps at the initial size, then at each size of refinement."""
    found: dict[tuple[int, int], FeatureMaps] = {}
    sizes = [tuple(self.config.initial_size), *self.config.refined_sizes()]
    for size in sizes:
      if size not in found:
        same = size == frames.shape[1:3]
        shape = (len(frames), *size, 3)
        resized = frames if same else jax.image.resize(frames, shape, "bilinear", antialias=False)
        found[size] = self.extractor(resized)
    return [found[size] for size in sizes]

  def query_features(self, maps: FeatureMaps, place: Float[Array, "N Q 2"]) -> QueryFeatures:
    """Returns the features at (y, x) in [0, 1] of the image's height and width."""

    def read(grid: Array) -> Array:
      size = jnp.asarray(grid.shape[1:3], jnp.float32)
      return read_map(grid, place * jnp.broadcast_to(size, place.shape), fade=False)

    return QueryFeatures(read(maps.high), read(maps.low))

  @hk.name_like("__call__")
  def first_guess(
    self, query: Float[Array, "N Q C"], grid: Float[Array, "N H W C"]
  ) -> tuple[Float[Array, "N Q 2"], Float[Array, "N Q"], Float[Array, "N Q"]]:
    """Returns (x, y) and both logits of each point in each of N frames, from its cost volume."""
    cost = jnp.einsum("nqc,nhwc->nqhw", query, grid)
    flat = cost.reshape(-1, *cost.shape[2:], 1)
    hidden = jax.nn.relu(Conv2D(16, name="cost")(flat))
    logits = Conv2D(1, name="heat")(hidden)[..., 0]
    heat = jax.nn.softmax(logits.reshape(len(flat), -1) * self.config.temperature, axis=-1)
    place = _soft_argmax(heat.reshape(logits.shape))
    scale = np.array(self.config.initial_size[::-1]) / np.array(logits.shape[:0:-1])
    place = place * jnp.broadcast_to(jnp.asarray(scale, jnp.float32), place.shape)
    # As in the release, whatever the size: padded after the last row and column only.
    padded = jnp.pad(hidden, ((0, 0), (0, 2), (0, 2), (0, 0)))
    pooled = jax.nn.relu(ValidConv(32, name="occlusion_0")(padded))
    pooled = jnp.mean(pooled, axis=(1, 2))
    pooled = jax.nn.relu(Linear(16, name="occlusion_1")(pooled))
    both = Linear(2, name="occlusion_2")(pooled).reshape(*cost.shape[:2], 2)
    return place.reshape(*cost.shape[:2], 2), both[..., 0], both[..., 1]

  def refine(
    self,
    guess: Guess,
    query: QueryFeatures,
    maps: FeatureMaps,
    size: tuple[int, int],
    is_first: Bool[Array, "T B Q"],
    states: MixerState,
  ) -> tuple[Guess, MixerState]:
    """Returns the guess after all iterations at one size, and the states of their mixers.

    Args:
      guess: At the initial size.
      query: Features of the queries at each tick, `[T, B, Q, C]`.
      maps: Feature maps of `T * B` frames at this size.
      size: Rows and columns of the frames of these maps.
      is_first: Where a slot starts.
      states: States of the mixers before the first tick.
    """
    pyramid = [maps.high, maps.low]
    for _ in range(self.config.pyramid):
      pyramid.append(_halved(pyramid[-1]))
    scale = np.array(self.config.initial_size[::-1]) / np.array(size[::-1])
    step = jnp.asarray(scale, jnp.float32)
    shape = guess.occluded.shape
    flags = is_first.reshape(shape[0], -1)

    def iteration(carry: tuple[Guess, Array], state: MixerState) -> tuple:
      guess, features = carry
      inputs = self._inputs(guess, features, pyramid)
      out, after = self.mixer(inputs.reshape(shape[0], -1, inputs.shape[-1]), flags, state)
      out = out.reshape(*shape, -1)
      offset = out[..., :2]
      offset = offset * jnp.broadcast_to(step, offset.shape)
      better = Guess(
        guess.position + offset, guess.occluded + out[..., 2], guess.distant + out[..., 3]
      )
      return (better, features + out[..., 4:]), after

    features = jnp.concatenate([query.high, query.low], axis=-1)
    (guess, _), after = hk.scan(iteration, (guess, features), states)
    return guess, after

  def _inputs(
    self, guess: Guess, features: Float[Array, "T B Q C"], pyramid: list[Array]
  ) -> Float[Array, "T B Q K"]:
    """Returns the inputs of the mixer: logits, features, and their products with the maps."""
    shape, high = guess.occluded.shape, self.config.high_dim
    products = []
    for level, grid in enumerate(pyramid):
      own = features[..., :high] if level == 0 else features[..., high:]
      around = self._around(guess.position, grid)
      flat = own.reshape(-1, shape[2], own.shape[-1])
      products.append(jnp.einsum("nqsc,nqc->nqs", around, flat).reshape(*shape, -1))
    nothing = jnp.zeros_like(guess.position)
    logits = [guess.occluded[..., None], guess.distant[..., None]]
    return jnp.concatenate([nothing, *logits, features, *products], axis=-1)

  def _around(
    self, position: Float[Array, "T B Q 2"], grid: Float[Array, "N h w C"]
  ) -> Float[Array, "N Q S C"]:
    """Returns the features in a square of cells around each position.

    As in the released torch code, columns are scaled by the rows of the map, which matters if it is
    not square.
    """
    rows, columns = grid.shape[1:3]
    size = np.array(self.config.initial_size[::-1])
    scale = jnp.asarray(np.array([columns, rows]) / size, jnp.float32)
    place = (position * jnp.broadcast_to(scale, position.shape))[..., ::-1]
    place = place.reshape(-1, *position.shape[2:])
    steps = np.arange(-REACH, REACH + 1.0)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    shape = (*place.shape[:2], len(offsets), 2)
    around = jnp.broadcast_to(place[:, :, None], shape) + jnp.broadcast_to(
      jnp.asarray(offsets, jnp.float32), shape
    )
    stretch = jnp.broadcast_to(jnp.asarray([1.0, columns / rows], jnp.float32), shape)
    return read_map(grid, around * stretch, fade=True)

  def follow(
    self, state: State, frames: Float[Array, "T B H W 3"], commands: TrackCommands
  ) -> tuple[list[Guess], Bool[Array, "T B Q"], State]:
    """Returns the first guess and those after each size, the active slots, and the state.

    Args:
      state: State before the first tick.
      frames: In [-1, 1].
      commands: Commands to the slots.
    """
    active = active_slots(state.active, commands)
    flat = frames.reshape(-1, *frames.shape[2:])
    maps = self.maps(flat)
    place = commands.position[..., ::-1].reshape(len(flat), -1, 2)
    lead = frames.shape[:2]
    queries = [
      _held(self.query_features(each, place), before, commands.start)
      for each, before in zip(maps, state.queries, strict=True)
    ]
    low = queries[0].low.reshape(len(flat), *queries[0].low.shape[2:])
    first = Guess(*(x.reshape(*lead, *x.shape[1:]) for x in self.first_guess(low, maps[0].low)))
    guesses, mixers = [first], []
    for size, query, each, before in zip(
      self.config.refined_sizes(), queries[1:], maps[1:], state.mixers, strict=True
    ):
      start = Guess(guesses[-1].position, first.occluded, first.distant)
      guess, after = self.refine(start, query, each, size, commands.start, before)
      guesses.append(guess)
      mixers.append(after)
    last = tuple(jax.tree.map(lambda x: x[-1], each) for each in queries)
    return guesses, active, State(last, tuple(mixers), active[-1])

  def track(
    self, state: State, frames: Float[Array, "T B H W 3"], commands: TrackCommands
  ) -> tuple[PointTracks, State]:
    """Returns the tracks after each of T ticks, and the state after the last; see `PointTracker`."""
    guesses, active, state = self.follow(state, 2 * frames - 1, commands)
    last = guesses[-1]
    size = jnp.asarray(self.config.initial_size[::-1], jnp.float32)
    place = last.position / jnp.broadcast_to(size, last.position.shape)
    sure = jax.nn.sigmoid(-last.distant)
    visible = jax.nn.sigmoid(-last.occluded) * sure > 0.5
    shown = where_rows(active, place, jnp.full_like(place, jnp.nan))
    return PointTracks(shown, visible & active, sure), state


class ValidConv(hk.Module):
  """3×3 convolution of stride 2 without padding."""

  def __init__(self, output_dim: int, *, name: str):
    super().__init__(name=name)
    self.output_dim = output_dim

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns the filtered images."""
    shape = (3, 3, x.shape[-1], self.output_dim)
    w = hk.get_parameter("w", shape, jnp.float32, hk.initializers.VarianceScaling())
    b = hk.get_parameter("b", shape[-1:], jnp.float32, jnp.zeros)
    numbers = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, w, (2, 2), "VALID", dimension_numbers=numbers)
    return y + jnp.broadcast_to(b, y.shape)


def _held(new: QueryFeatures, before: QueryFeatures, start: Bool[Array, "T B Q"]) -> QueryFeatures:
  """Returns the features of the query of each slot at each tick, `[T, B, Q, C]`."""

  def tick(held: QueryFeatures, now: tuple) -> tuple[QueryFeatures, QueryFeatures]:
    flags, fresh = now
    held = jax.tree.map(lambda a, b: where_rows(flags, a, b), fresh, held)
    return held, held

  shaped = jax.tree.map(lambda x: x.reshape(*start.shape, x.shape[-1]), new)
  return jax.lax.scan(tick, before, (start, shaped))[1]


def _soft_argmax(heat: Float[Array, "N H W"]) -> Float[Array, "N 2"]:
  """Returns (x, y): the mean over the cells near the best one; the first centre is at 0.5."""
  rows, columns = heat.shape[1:]
  y, x = np.mgrid[:rows, :columns] + 0.5
  cells = jnp.asarray(np.stack([x, y], axis=-1).reshape(-1, 2), jnp.float32)
  flat = heat.reshape(len(heat), -1)
  best = cells[jnp.argmax(flat, axis=-1)]
  shape = (*flat.shape, 2)
  each = jnp.broadcast_to(cells, shape)
  away = jnp.sum(jnp.square(each - jnp.broadcast_to(best[:, None], shape)), axis=-1)
  weights = jnp.where(away < NEAR**2, flat, 0.0)
  total = jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-12)
  return jnp.sum(each * weights[..., None], axis=1) / total


def _halved(grid: Float[Array, "N h w C"]) -> Float[Array, "N i j C"]:
  """Returns the means of 2×2 cells; an odd last row or column is left out."""
  rows, columns = grid.shape[1] // 2, grid.shape[2] // 2
  even = grid[:, : 2 * rows, : 2 * columns]
  return jnp.mean(even.reshape(len(grid), rows, 2, columns, 2, -1), axis=(2, 4))
