"""Training a readout that tracks points or boxes in the states of a model.

A point is queried at the first tick at which it is visible, and tracked until its slot is reused.
A box is the one around the visible part of an object in the segmentation.

Source: losses are TAPIR's (2306.08637): Huber on positions of visible points, and two logits. A
small weight on hidden points, whose position is in the labels, is ours.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.evaluation.clips import RASTER
from perceiver_stream.models import point_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import TrackCommands, Tracker, TrackState
from perceiver_stream.nn.boxes import boxes_of
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import Aux, Score, check_window, model_params
from perceiver_stream.training.objectives.readout_base import (
  ReadoutConfig,
  ReadoutLearner,
  ReadoutObjective,
)
from perceiver_stream.types import IS_FIRST, Observation

_CLOSE = 8.0  # of them: an error below which the tracker should be certain
LABELS = {
  "points": ("points", "points_visible", "points_id"),
  "boxes": ("segmentation",),
}


@dataclass(kw_only=True)
class Config(ReadoutConfig):
  """Window, slots and tracker of point tracking.

  Attributes:
    window: Ticks between updates; gradients reach back through them.
    num_slots: Targets tracked at a time: the number of points, or of labelled objects, of the stream.
    readout: The tracker.
    hidden_weight: Weight of the position while the target is hidden; labels have it.
  """

  window: int = 12
  num_slots: int = 64
  readout: point_readout.Config = field(default_factory=point_readout.Config)
  hidden_weight: float = 0.2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("point_tracking", self.window)
    if self.num_slots < 1:
      raise ValueError(f"point_tracking: num_slots={self.num_slots}; use at least 1.")
    self.readout.validate()


class State(NamedTuple):
  """The state from window to window.

  Attributes:
    watched: State of the frozen model.
    tracks: State of the tracker.
    ids: Target in each slot; -1 is none.
    start: Its position at its start, in [0, 1]; the prediction of the static baseline.
  """

  watched: PyTree
  tracks: TrackState
  ids: Int[Array, "B Q"]
  start: Float[Array, "B Q K"]


@dataclass(frozen=True)
class TrackerLearner(ReadoutLearner[Tracker]):
  """A model with a tracker.

  Attributes:
    num_slots: Points or boxes tracked at a time.
  """

  num_slots: int = 64

  @property
  def use_flow(self) -> bool:
    """If True, features hold the motion that the model decodes from its latents."""
    return self.readout.config.use_flow

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> State:
    """Returns the state before the first window: nothing is tracked."""
    watched = super().initial_state(params, batch_size, rng)
    tracks = self.readout.initial_state(batch_size, self.num_slots)
    ids = jnp.full((batch_size, self.num_slots), -1, jnp.int32)
    return State(watched, tracks, ids, jnp.zeros_like(tracks.position))


class PointTracking(ReadoutObjective[Tracker]):
  """Loss and scores; `points@0` is the distance in pixels of a 256×256 image, where visible."""

  name, config_type = "point_tracking", Config

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    readout = config.readout
    self.readout_name = readout.follows
    self.key = str(ScoreKey(readout.follows, 0))
    self.needs = ("pixels", *LABELS[readout.follows])
    self.labels = {name: (readout.follows, f"px{RASTER}") for name in LABELS[readout.follows]}
    params, tracker = model_params(model, config.weights), point_readout.build(readout)
    self.learner = TrackerLearner(model, params, tracker, config.finetune, config.num_slots)

  def loss(
    self, params: PyTree, state: State, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of a window `[W, B, ...]`, with its other results."""
    del rng
    own, readout = self.learner.split(params)
    features, after = self.learner.observe(own, state.watched, window)
    truth, visible, names = self._truth(window)
    commands, ids, start = queries(window, truth, visible, names, state.ids, state.start)
    tracks, tracked = self.learner.readout.unroll(readout, state.tracks, features, commands)
    follows = (ids >= 0) & ~commands.start
    loss, errors = self._judge(tracks, truth, visible, follows)
    count = follows & visible
    still = _distance(start[..., :2], truth[..., :2])
    score = Score(_mean(errors, count), {"copy": _mean(still, count)}, jnp.any(count, axis=-1))
    last = State(after, tracked, ids[-1], start[-1])
    found = last, {self.key: score}, {}
    return loss, Aux(*jax.lax.stop_gradient(found))

  def _truth(
    self, window: Observation
  ) -> tuple[Float[Array, "W B Q K"], Bool[Array, "W B Q"], Int[Array, "W B Q"]]:
    """Returns positions in [0, 1], their visibility, and the target in each slot."""
    num = self.config.num_slots
    if self.config.readout.follows == "boxes":
      truth, visible = boxes_of(jnp.asarray(window["segmentation"]), num)
      return truth, visible, jnp.broadcast_to(jnp.arange(num), visible.shape)
    if window["points"].shape[2] != num:
      raise ValueError(
        f"point_tracking: the stream has {window['points'].shape[2]} points and num_slots={num}; "
        f"make them equal."
      )
    height, width = window["pixels"].shape[2:4]
    truth = window["points"] / jnp.asarray([width, height], jnp.float32).reshape(1, 1, 1, 2)
    return truth, jnp.asarray(window["points_visible"]), jnp.asarray(window["points_id"])

  def _judge(
    self, tracks: point_readout.Tracks, truth: Array, visible: Array, counted: Array
  ) -> tuple[Float[Array, ""], Float[Array, "W B Q"]]:
    position = jnp.where(jnp.isnan(tracks.position), 0.5, tracks.position)
    error = _distance(position[..., :2], truth[..., :2])
    inside = jnp.all((truth >= 0) & (truth <= 1), axis=-1)
    known = inside if self.config.readout.follows == "points" else jnp.zeros_like(inside)
    weight = jnp.where(visible, 1.0, jnp.where(known, self.config.hidden_weight, 0.0))
    far = optax.losses.huber_loss(error, delta=4.0) / 4.0
    if position.shape[-1] == 4:
      size = _distance(position[..., 2:], truth[..., 2:])
      far = far + optax.losses.huber_loss(size, delta=4.0) / 4.0
    close = jax.lax.stop_gradient(error) < _CLOSE
    logit = optax.losses.sigmoid_binary_cross_entropy
    flags = logit(tracks.visible, visible.astype(jnp.float32))
    sure = logit(tracks.certainty, close.astype(jnp.float32))
    flags = flags + jnp.where(visible, sure, 0.0)
    total = _mean(0.1 * weight * far + flags, counted)
    return jnp.mean(total), jax.lax.stop_gradient(error)


def queries(
  window: Observation,
  truth: Float[Array, "W B Q K"],
  visible: Bool[Array, "W B Q"],
  names: Int[Array, "W B Q"],
  ids: Int[Array, "B Q"],
  start: Float[Array, "B Q K"],
) -> tuple[TrackCommands, Int[Array, "W B Q"], Float[Array, "W B Q K"]]:
  """Returns commands that start each target where it is first visible; the tracked targets; their starts.

  A track ends where its slot is given to another target, and where a recording ends.
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

  first = window.get(IS_FIRST, jnp.zeros(names.shape[:2], bool))
  _, outputs = jax.lax.scan(tick, (ids, start), (truth, visible, names, first))
  begins, ends, ids, start = outputs
  return TrackCommands(begins, truth, ends), ids, start


def _distance(one: Array, other: Array) -> Float[Array, "..."]:
  """Returns distances in pixels of the raster, smooth at zero."""
  return RASTER * jnp.sqrt(jnp.sum(jnp.square(one - other), axis=-1) + 1e-8)


def _mean(values: Float[Array, "W B Q"], counted: Bool[Array, "W B Q"]) -> Float[Array, "W B"]:
  total = jnp.sum(jnp.where(counted, values, 0.0), axis=-1)
  return total / jnp.maximum(jnp.sum(counted.astype(jnp.float32), axis=-1), 1.0)
