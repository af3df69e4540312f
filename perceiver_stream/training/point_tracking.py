"""Learning to read tracks out of frozen states: the model watches, only the tracker learns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.evaluation.clips import Method
from perceiver_stream.models import point_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import Orders, Sight, Tracker, TrackState
from perceiver_stream.training.objectives import Aux, Score
from perceiver_stream.types import IS_FIRST, Observation

RASTER = 256  # pixels in which TAP-Vid counts
_CLOSE = 8.0  # of them: an error below which the tracker should be certain
LABELS = ("points", "points_visible", "points_id")


@dataclass(kw_only=True)
class Config:
  """What is learnt.

  Attributes:
    window: Ticks between updates; gradients reach back through them.
    readout: The tracker.
    hidden_weight: Weight of the position while the point is hidden; the labels know it.
  """

  window: int = 12
  readout: point_readout.Config = field(default_factory=point_readout.Config)
  hidden_weight: float = 0.2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.window < 1:
      raise ValueError(f"point tracking: window={self.window} ticks; use at least 1.")
    self.readout.validate()


class State(NamedTuple):
  """What is carried from window to window.

  Attributes:
    watched: State of the frozen model.
    tracks: State of the tracker.
    ids: Point in each slot; -1 is none.
    start: Where it was when it started, in [0, 1]; where a static point stays.
  """

  watched: PyTree
  tracks: TrackState
  ids: Int[Array, "B Q"]
  start: Float[Array, "B Q 2"]


class Watched(NamedTuple):
  """A frozen model with a tracker, as the loop wants a model: `init` and `initial_state`."""

  model: Model
  params: PyTree
  tracker: Tracker
  num_slots: int

  def init(self, rng: Array, observation: Observation) -> PyTree:
    """Returns parameters of the tracker."""
    rows = next(iter(observation.values())).shape[0]
    state = self.model.initial_state(self.params, rows)
    once = {n: jnp.asarray(observation[n])[None] for n in self.model.modalities if n in observation}
    sight, _ = look(self.model, self.params, state, once)
    return self.tracker.init(rng, jax.tree.map(lambda x: x[0], sight))

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> State:
    """Returns the state before the first window."""
    del params
    slots = (batch_size, self.num_slots)
    tracks = self.tracker.initial_state(*slots)
    watched = self.model.initial_state(self.params, batch_size, rng)
    return State(watched, tracks, jnp.full(slots, -1, jnp.int32), jnp.zeros((*slots, 2)))


def look(
  model: Model, params: PyTree, state: PyTree, observations: Mapping[str, Any]
) -> tuple[Sight, PyTree]:
  """Returns what a tracker sees of the states of T ticks, and the state after them.

  Frames are those that the state remembers under "pixels", if it does.
  """
  states, after = model.observe(params, state, observations)
  latents = model.latents(params, states)
  memory = getattr(states, "memory", {}).get("pixels")
  frames = (memory.last, memory.previous) if memory is not None else (None, None)
  return Sight(latents, *frames), after


class PointTracking:
  """The objective: a query at the first tick at which a point is seen, its track from there."""

  outputs = ("points",)

  def __init__(self, watched: Watched, config: Config):
    config.validate()
    self.watched, self.config = watched, config

  def loss(
    self, params: PyTree, state: State, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of a window `[W, B, ...]` with `LABELS`, and what else it tells."""
    del rng
    model, tracker = self.watched.model, self.watched.tracker
    seen = {k: v for k, v in window.items() if k not in LABELS}
    sight, watched = look(model, self.watched.params, state.watched, seen)
    height, width = window["pixels"].shape[2:4]
    truth = window["points"] / jnp.asarray([width, height], jnp.float32).reshape(1, 1, 1, 2)
    orders, ids, start = queries(window, truth, state.ids, state.start)
    tracks, after = tracker.unroll(params, state.tracks, sight, orders)
    follows = ids >= 0
    visible = jnp.asarray(window["points_visible"])
    loss, errors = self._judge(tracks, truth, visible, follows & ~orders.start)
    still = _distance(start, truth)
    count = follows & visible & ~orders.start
    score = Score(_mean(errors, count), {"copy": _mean(still, count)}, jnp.any(count, axis=-1))
    last = State(watched, after, ids[-1], start[-1])
    shown = {"points@0": jax.lax.stop_gradient(tracks.position)}
    return loss, Aux(jax.lax.stop_gradient(last), {"points@0": score}, shown)

  def _judge(
    self, tracks: point_readout.Tracks, truth: Array, visible: Array, counted: Array
  ) -> tuple[Float[Array, ""], Float[Array, "W B Q"]]:
    position = jnp.where(jnp.isnan(tracks.position), 0.5, tracks.position)
    error = _distance(position, truth)
    inside = jnp.all((truth >= 0) & (truth <= 1), axis=-1)
    weight = jnp.where(visible, 1.0, jnp.where(inside, self.config.hidden_weight, 0.0))
    far = optax.losses.huber_loss(error, delta=4.0) / 4.0
    close = jax.lax.stop_gradient(error) < _CLOSE
    logit = optax.losses.sigmoid_binary_cross_entropy
    flags = logit(tracks.visible, visible.astype(jnp.float32))
    sure = logit(tracks.certainty, close.astype(jnp.float32))
    flags = flags + jnp.where(visible, sure, 0.0)
    total = _mean(0.1 * weight * far + flags, counted)
    return jnp.mean(total), jax.lax.stop_gradient(error)


def queries(
  window: Observation,
  truth: Float[Array, "W B Q 2"],
  ids: Int[Array, "B Q"],
  start: Float[Array, "B Q 2"],
) -> tuple[Orders, Int[Array, "W B Q"], Float[Array, "W B Q 2"]]:
  """Returns orders that start each point where it is first seen; who is followed, and since where.

  A point ends where its slot is given to another one, and where a recording ends.
  """

  def tick(before: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Any]:
    ids, start = before
    truth, visible, names, is_first = now
    kept = (ids == names) & ~is_first[:, None]
    begins = ~kept & visible
    ends = (ids >= 0) & ~kept & ~begins
    ids = jnp.where(kept | begins, names, -1)
    start = jnp.where(begins[..., None], truth, start)
    return (ids, start), (begins, ends, ids, start)

  first = window.get(IS_FIRST, jnp.zeros(window["points_id"].shape[:2], bool))
  now = (truth, window["points_visible"], window["points_id"], first)
  _, (begins, ends, ids, start) = jax.lax.scan(tick, (ids, start), now)
  return Orders(begins, truth, ends), ids, start


def _distance(one: Array, other: Array) -> Float[Array, "..."]:
  """Returns distances in pixels of the raster, smooth at zero."""
  return RASTER * jnp.sqrt(jnp.sum(jnp.square(one - other), axis=-1) + 1e-8)


def _mean(values: Float[Array, "W B Q"], counted: Bool[Array, "W B Q"]) -> Float[Array, "W B"]:
  total = jnp.sum(jnp.where(counted, values, 0.0), axis=-1)
  return total / jnp.maximum(jnp.sum(counted.astype(jnp.float32), axis=-1), 1.0)


def metric_names() -> dict[str, str]:
  """Returns the name of the error in scores: pixels of a 256×256 picture."""
  return {"points": f"px{RASTER}"}


def as_method(
  watched: Watched, params: PyTree, *, both_ways: bool = False, chunk: int = 8
) -> Method:
  """Returns the tracker as a method of `evaluation.clips`, for models that read pixels.

  The model watches each clip from its initial state, `chunk` ticks at a time, so that clips of any
  length use one program. Queries are answered in turns where there are more than slots.

  Args:
    watched: The frozen model and the tracker.
    params: Of the tracker.
    both_ways: Whether frames before a query are answered too, by watching the clip backwards.
    chunk: Ticks at a time; what is left over at a clip's end is padded.
  """
  model, tracker = watched.model, watched.tracker
  see = jax.jit(lambda state, seen: look(model, watched.params, state, seen))

  def sights(frames: np.ndarray) -> list[Sight]:
    state, found = model.initial_state(watched.params, 1), []
    for first in range(0, len(frames), chunk):
      piece = frames[first : first + chunk]
      piece = np.concatenate([piece, np.repeat(piece[-1:], chunk - len(piece), axis=0)])
      start = np.zeros((chunk, 1), bool)
      start[0] = first == 0
      sight, state = see(state, {"pixels": piece[:, None], IS_FIRST: start})
      found.append(sight)
    return found

  def follow(
    seen: list[Sight], asked: np.ndarray, size: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    slots = watched.num_slots
    state, tracks, hidden = tracker.initial_state(1, slots), [], []
    place = np.zeros((slots, 2), np.float32)
    place[: len(asked)] = asked[:, :0:-1] / size
    for number, sight in enumerate(seen):
      start = np.zeros((chunk, 1, slots), bool)
      now = np.round(asked[:, 0]) - number * chunk
      for slot in np.flatnonzero((now >= 0) & (now < chunk)):
        start[int(now[slot]), 0, slot] = True
      position = jnp.broadcast_to(jnp.asarray(place), (chunk, 1, slots, 2))
      orders = Orders(jnp.asarray(start), position, jnp.zeros((chunk, 1, slots), bool))
      said, state = tracker.unroll(params, state, sight, orders)
      tracks.append(np.asarray(said.position)[:, 0, : len(asked)])
      hidden.append(~np.asarray(said.seen())[:, 0, : len(asked)])
    return np.concatenate(tracks).swapaxes(0, 1) * size, np.concatenate(hidden).T

  def method(frames: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num, size = len(frames), np.array(frames.shape[2:0:-1], np.float64)
    asked = np.asarray(asked, np.float64)
    before = np.arange(num) < np.round(asked[:, :1])
    tracks = np.repeat(asked[:, None, :0:-1], num, axis=1)
    hidden = before.copy()
    turns = [(sights(frames), asked, ~before, slice(None))]
    if both_ways:
      turned = asked * (-1, 1, 1) + (num - 1, 0, 0)
      turns.append((sights(frames[::-1]), turned, before, slice(None, None, -1)))
    for seen, queries, counted, order in turns:
      for first in range(0, len(asked), watched.num_slots):
        some = slice(first, first + watched.num_slots)
        found, unseen = follow(seen, queries[some], size)
        found, unseen = found[:, :num][:, order], unseen[:, :num][:, order]
        tracks[some] = np.where(counted[some][..., None], found, tracks[some])
        hidden[some] = np.where(counted[some], unseen, hidden[some])
    return tracks, hidden

  return method
