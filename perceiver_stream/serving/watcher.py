"""One model on one stream, tick by tick: predictions for now, their errors, flow and tracks.

All of a tick is one compiled program of fixed shapes.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from perceiver_stream.inference.latent_tracking import num_positioned
from perceiver_stream.inference.model_loading import blank_tick
from perceiver_stream.modalities import Modality
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import Features, TrackCommands, Tracker
from perceiver_stream.serving.image_points import Points, PointsInImages
from perceiver_stream.training.objectives.base import reconstructs_motion
from perceiver_stream.training.objectives.future_prediction import FuturePrediction
from perceiver_stream.types import IS_FIRST, valid_key

FLOW = "pixels_flow"  # predicted backward flow among the outputs


class TickResults(NamedTuple):
  """Results of a tick, arrays of one row: of JAX in the program, of NumPy as returned.

  Attributes:
    predicted: By output, predictions for this tick made `displacements` ticks ago, `[D, ...]`.
    target: By output, this tick in the predicted space.
    errors: By output and predictor (`model`, `copy`), `[D]`, in the modality's metric.
    flow: Motion of each pixel until the next tick, `[H, W, 2]`, (x, y) in pixels; None without.
    points: Of the slots of tracked points; None if none can be tracked.
    latents: Of the latents with a position; None without.
  """

  predicted: dict[str, Any]
  target: dict[str, Any]
  errors: dict[str, dict[str, Any]]
  flow: Any
  points: Points | None
  latents: Points | None


class Past(NamedTuple):
  """Predictions and copies made at one tick, `[1, D, ...]` by output."""

  predictions: dict[str, Array]
  copies: dict[str, Array]


class Watcher:
  """State of a model on a stream, and its predictions of ticks to come.

  Attributes:
    params: Parameters; may be replaced between ticks.
    state: State of the model after the newest tick.
    displacements: Ticks ahead of the model's predictions.
    outputs: Predicted modalities by name.
    can_track: True if points can be tracked.
  """

  def __init__(
    self,
    model: Model,
    params: PyTree,
    tracker: tuple[Tracker, PyTree] | None = None,
    num_slots: int = 8,
  ):
    """Starts before the first tick.

    Args:
      model: One that predicts a future.
      params: Its parameters.
      tracker: Read-out of points and its parameters, for a model without positions of latents;
        None: points are tracked in the images, without learning.
      num_slots: Points that can be tracked at a time.

    Raises:
      ValueError: The model predicts nothing that comes.
    """
    if reason := FuturePrediction.check_model(model):
      raise ValueError(f"live: this model cannot be watched. {reason} Use a stream_perceiver.")
    self.model, self.displacements = model, model.displacements
    self.params = jax.device_put(params, jax.devices()[0])  # committed, as what a learner gives
    self.outputs = {n: m for n, m in model.modalities.items() if m.config.use_output}
    self._positioned = num_positioned(model)
    self._readout, self._readout_params = tracker or (None, {})
    self._readout_params = jax.device_put(self._readout_params, jax.devices()[0])
    self.num_slots = min(num_slots, self._positioned) if self._positioned else num_slots
    self.can_track = bool(self._positioned or tracker or "pixels" in model.modalities)
    is_by_images = self.can_track and not (self._positioned or tracker)
    self._in_images = PointsInImages(num_slots) if is_by_images else None
    self._tick = jax.jit(self._compute)
    self._commands = self._no_commands()
    self._blank = _blank_past(self)
    self.reset()

  def reset(self) -> None:
    """Returns to the state before the first tick; tracked points are dropped."""
    readout = self._readout
    tracks = readout.initial_state(1, self.num_slots) if readout else ()
    start = self.model.initial_state(self.params, 1), tracks
    self.state, self._tracks = jax.device_put(start, jax.devices()[0])
    if self._in_images:
      self._in_images.reset()
    self.forget()

  def forget(self) -> None:
    """Drops predictions that wait for their tick."""
    self._past: deque[Past] = deque(maxlen=max(self.displacements))

  def start_point(self, slot: int, x: float, y: float, ago: int = 0) -> None:
    """Starts to track a point with the next tick; x, y in [0, 1] of the image `ago` ticks ago.

    The latents and the read-out of a model start it there in the next image.
    """
    if self._in_images:
      self._in_images.start(slot, x, y, ago)
    start, position, stop = self._commands
    start[0, slot], position[0, slot], stop[0, slot] = True, (x, y), False

  def stop_point(self, slot: int) -> None:
    """Stops to track a point with the next tick."""
    if self._in_images:
      self._in_images.stop(slot)
    start, _, stop = self._commands
    start[0, slot], stop[0, slot] = False, True

  def observe(self, tick: Mapping[str, np.ndarray]) -> tuple[TickResults, np.ndarray]:
    """Returns the results of the next tick, `[1, ...]`, and which displacements have a prediction.

    A tick with `is_first` starts a new recording.
    """
    if bool(np.any(tick.get(IS_FIRST, False))):
      self.forget()
    known = np.array([d <= len(self._past) for d in self.displacements])
    past = tuple(
      self._past[-d] if 0 < d <= len(self._past) else self._blank for d in self.displacements
    )
    commands, self._commands = self._commands, self._no_commands()
    carried = (self.state, self._tracks)
    results, newest, carried = self._tick(
      self.params, self._readout_params, carried, dict(tick), past, commands
    )
    self.state, self._tracks = carried
    self._past.append(newest)
    results = jax.device_get(results)
    if self._in_images:
      results = results._replace(points=self._in_images.observe(tick))
    return results, known

  def _no_commands(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the arrays of `TrackCommands` that change nothing."""
    none = np.zeros((1, self.num_slots), bool)
    return none, np.full((1, self.num_slots, 2), 0.5, np.float32), none.copy()

  def _compute(
    self,
    params: PyTree,
    readout_params: PyTree,
    carried: tuple[PyTree, PyTree],
    tick: dict[str, Array],
    past: tuple[Past, ...],
    changes: tuple[Array, Array, Array],
  ) -> tuple[TickResults, Past, tuple[PyTree, PyTree]]:
    """Returns the results of a tick, its predictions, and what is carried to the next."""
    (state, tracks), commands = carried, TrackCommands(*changes)
    if self._positioned:
      state = state._replace(latents=self._restarted(state.latents, commands))
    _, state = self.model.observe(params, state, {n: x[None] for n, x in tick.items()})
    predictions = self.model.predict(params, state, self.displacements)
    copies = {n: self._copies(m, state.memory[n]) for n, m in self.outputs.items()}
    now = Past(predictions, copies)
    past = tuple(now if d == 0 else p for d, p in zip(self.displacements, past, strict=True))
    points, tracks = self._points(readout_params, params, state, tracks, commands)
    predicted = {n: _at_each([p.predictions[n] for p in past]) for n in self.outputs}
    target = {n: self._target(m, state, tick) for n, m in self.outputs.items()}
    errors = {}
    for name, modality in self.outputs.items():
      truth = jnp.broadcast_to(target[name], predicted[name].shape)
      copied = _at_each([p.copies[name] for p in past])
      guesses = {"model": predicted[name], "copy": copied}
      errors[name] = {n: modality.metric(guess, truth) for n, guess in guesses.items()}
    first = lambda x: x[0]  # noqa: E731
    results = TickResults(
      predicted,
      jax.tree.map(first, target),
      errors,
      self._flow(predictions),
      jax.tree.map(first, points),
      jax.tree.map(first, self._latents(state)),
    )
    return results, now, (state, tracks)

  def _copies(self, modality: Modality, memory: Any) -> Array:
    copies = [modality.copy(modality.newest(memory, d)) for d in self.displacements]
    return jnp.stack(copies, axis=1)

  def _target(self, modality: Modality, state: PyTree, tick: Mapping[str, Array]) -> Array:
    """Returns the target of a modality; where the tick has none, its last observation."""
    if modality.name in tick:
      return modality.target(modality.preprocess(tick[modality.name]))
    return modality.copy(modality.newest(state.memory[modality.name], 1))

  def _flow(self, predictions: Mapping[str, Array]) -> Array | None:
    """Returns the motion of the newest frame, from the decoded backward flow, in pixels per tick."""
    if FLOW not in predictions:
      return None
    if reconstructs_motion(self.model):
      return -predictions[FLOW][0, self.displacements.index(0)]
    nearest = min(d for d in self.displacements if d > 0)
    return -predictions[FLOW][0, self.displacements.index(nearest)] / nearest

  def _restarted(self, latents: Any, commands: TrackCommands) -> Any:
    """Returns the latents, the last of those with positions restarted by the commands."""
    before = self._positioned - self.num_slots
    start = jnp.pad(commands.start, ((0, 0), (before, 0)))
    place = 2 * jnp.asarray(commands.position)[..., ::-1] - 1  # (y, x) in [-1, 1]
    return latents.restart(start, jnp.pad(place, ((0, 0), (before, 0), (0, 0))))

  def _points(
    self, readout_params: PyTree, params: PyTree, state: PyTree, tracks: PyTree, commands: Any
  ) -> tuple[Points | None, PyTree]:
    """Returns the tracked points `[1, Q, ...]`, and the state of their read-out."""
    latents = self._latents(state)
    if latents is not None:
      return jax.tree.map(lambda x: x[:, self._positioned - self.num_slots :], latents), tracks
    if self._readout is None:
      return None, tracks
    memory = state.memory["pixels"]
    flow = None
    if self._readout.config.use_flow:
      flow = self.model.predict(params, state, (0,))[FLOW][:, 0]
    features = Features(self.model.latents(params, state), memory.last, memory.previous, flow)
    found, tracks = self._readout.step(readout_params, tracks, features, commands)
    return Points(found.position, found.seen()), tracks

  def _latents(self, state: PyTree) -> Points | None:
    if not self._positioned:
      return None
    return Points((state.latents.position[..., ::-1] + 1) / 2, state.latents.visible > 0)


def inputs_of(model: Model, tick: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns the model's inputs of a tick of a stream as one row, `[1, ...]`."""
  names = {IS_FIRST, *model.modalities, *map(valid_key, model.modalities)}
  return {name: np.asarray(value)[None] for name, value in tick.items() if name in names}


def _at_each(guesses: list[Array]) -> Array:
  """Returns the guess of each displacement, `[D, ...]`, from guesses `[1, D, ...]` of D ticks."""
  return jnp.stack([guess[0, i] for i, guess in enumerate(guesses)])


def _blank_past(watcher: Watcher) -> Past:
  """Returns zeros of the shapes of `Past`."""
  model, tick = watcher.model, blank_tick(watcher.model)

  def shapes(params: PyTree, tick: dict[str, Array]) -> Past:
    state = model.initial_state(params, 1)
    _, state = model.observe(params, state, {n: x[None] for n, x in tick.items()})
    copies = {n: watcher._copies(m, state.memory[n]) for n, m in watcher.outputs.items()}
    return Past(model.predict(params, state, watcher.displacements), copies)

  found = jax.eval_shape(shapes, watcher.params, tick)
  blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found)
  return jax.device_put(blank, jax.devices()[0])
