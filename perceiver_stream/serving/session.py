"""A model on one stream, with its learner: takes ticks and commands, returns views for a page."""

import pathlib
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from perceiver_stream.evaluation.attention import attention_maps
from perceiver_stream.evaluation.baselines import FrameBaselines
from perceiver_stream.files import codec
from perceiver_stream.inference.model_loading import Loaded, blank_tick
from perceiver_stream.modalities import NonFinite
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import Tracker
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.serving import curves
from perceiver_stream.serving.curves import Curves
from perceiver_stream.serving.learning import OnlineLearner, Progress, with_start
from perceiver_stream.serving.watcher import TickResults, Watcher, inputs_of
from perceiver_stream.streams.base import TIMESTAMP
from perceiver_stream.training.checkpoints import Checkpoints
from perceiver_stream.training.config import ExperimentConfig, to_shared_dict
from perceiver_stream.types import IS_FIRST, ModalitySpec, valid_key

MAX_POINTS = 8  # tracked at a time
OWNER_GRID = (16, 16)  # cells of the image, for each of which the latent that owns it is shown


class View(NamedTuple):
  """Results of a tick for a page.

  Attributes:
    tick: Its number, from 1.
    time_s: On the stream's clock; NaN where it has none.
    is_first: True if a recording starts with it.
    frame: The image, RGB; None if the model has no images.
    results: Of the model.
    known: For each displacement, True if a prediction of this tick was made.
    scores: Errors by `"<output>@<displacement>"` and predictor.
    owners: Index of the latent that owns each cell of the image; None if it was not computed.
    points: Ids of the tracked points, by slot; 0 is none.
    progress: Of learning.
    step_ms: Milliseconds that the tick took.
  """

  tick: int
  time_s: float
  is_first: bool
  frame: np.ndarray | None
  results: TickResults
  known: np.ndarray
  scores: dict[str, dict[str, float]]
  owners: np.ndarray | None
  points: list[int]
  progress: Progress
  step_ms: float


class Session:
  """Model, state and learner of one stream; may be used from several threads.

  Attributes:
    config: The experiment.
    watcher: The model on the stream.
    learner: The learner; None if nothing is learned.
    curves: Scores since the start.
    owners_every: Ticks between maps of the latents' ownership; 0 makes none.
  """

  def __init__(
    self,
    loaded: Loaded,
    config: ExperimentConfig,
    *,
    learner: OnlineLearner | None = None,
    tracker: tuple[Tracker, Any] | None = None,
    owners_every: int = 5,
  ):
    """Starts before the first tick.

    Args:
      loaded: Model and parameters.
      config: The experiment.
      learner: Of the same model, with the same parameters.
      tracker: See `Watcher`.
      owners_every: Ticks between maps of ownership, which cost about as much as a tick.
    """
    model = loaded.model
    self.config, self.learner, self.about = config, learner, loaded.about
    self.watcher = Watcher(model, loaded.params, tracker, MAX_POINTS)
    self.owners_every = owners_every if _shows_owners(model) else 0
    self.metric_names = {name: m.metric_name for name, m in self.watcher.outputs.items()}
    self.curves = Curves(config.objective.window, self.metric_names)
    self.ticks = 0
    self._finite = NonFinite(model.modalities)
    self._lock = threading.RLock()
    self._ids, self._last_id = [0] * self.watcher.num_slots, 0
    self._owners: np.ndarray | None = None
    self._baselines: FrameBaselines | None = None
    self._make_baselines()

  @property
  def input_specs(self) -> dict[str, ModalitySpec]:
    """Specs of the model's inputs by name."""
    modalities = self.watcher.model.modalities
    return {name: m.spec for name, m in modalities.items() if m.config.use_input}

  @property
  def is_learning(self) -> bool:
    """True if ticks are learned from."""
    return self.learner is not None and self.learner.is_on

  def observe(self, tick: Mapping[str, Any], dropped: int = 0) -> View:
    """Returns the results of the next tick of the stream, as a stream gives it.

    Args:
      tick: Unbatched.
      dropped: Images that the source has dropped so far; where it drops more, less is learned.
    """
    started = time.perf_counter()
    with self._lock:
      inputs = self._finite(with_start(inputs_of(self.watcher.model, tick)))
      is_first = bool(inputs[IS_FIRST][0])
      if is_first:
        self._drop_points()
      before = self.watcher.state
      owners = self._owned(inputs, before)
      results, known = self.watcher.observe(inputs)
      if self.learner is not None:
        params = self.learner.offer(inputs, before, dropped)
        self.watcher.params = self.watcher.params if params is None else params
      self.ticks += 1
      scores = self._scores(results, known, inputs, is_first)
      progress = self.learner.progress if self.learner else Progress()
      loss = progress.loss if np.isfinite(progress.loss) else None
      self.curves.add(scores, loss=loss, skipped=progress.skipped)
      frame = np.asarray(tick["pixels"]) if "pixels" in tick else None
      taken_ms = 1000 * (time.perf_counter() - started)
      return View(
        self.ticks,
        float(tick.get(TIMESTAMP, np.nan)),
        is_first,
        frame,
        results,
        known,
        scores,
        owners,
        list(self._ids),
        progress,
        taken_ms,
      )

  def warm_up(self) -> None:
    """Compiles the programs of a tick before the first one comes."""
    with self._lock:
      inputs = with_start(blank_tick(self.watcher.model))
      inputs |= {valid_key(name): np.zeros(1, bool) for name in self.input_specs}
      self._owned(inputs, self.watcher.state)
      self.watcher.observe(inputs)
      self.watcher.reset()

  def track(self, x: float, y: float, tick: int | None = None) -> int:
    """Starts to track a point of an image, and returns its id.

    Args:
      x: Position in [0, 1] of the image's width.
      y: Likewise of its height.
      tick: Number of the tick whose image it is; None: the newest.

    Raises:
      ValueError: The model tracks no points, it is outside, or too many are tracked.
    """
    if not self.watcher.can_track:
      raise ValueError("track: this model does not see images, so there is nothing to follow.")
    if not (0 <= x <= 1 and 0 <= y <= 1):
      raise ValueError(f"track: ({x}, {y}) is outside the image; use numbers in [0, 1].")
    with self._lock:
      if 0 not in self._ids:
        raise ValueError(f"track: {len(self._ids)} points are tracked, the most; drop one first.")
      slot, self._last_id = self._ids.index(0), self._last_id + 1
      self._ids[slot] = self._last_id
      ago = 0 if tick is None else max(0, self.ticks - tick)
      self.watcher.start_point(slot, x, y, ago)
      return self._last_id

  def drop(self, point: int) -> None:
    """Stops to track a point, by its id; nothing happens if there is none."""
    with self._lock:
      if point and point in self._ids:
        slot = self._ids.index(point)
        self._ids[slot] = 0
        self.watcher.stop_point(slot)

  def set_learning(self, is_on: bool) -> None:
    """Turns learning on or off; raises ValueError if nothing learns, or its parameters were lost."""
    self._learner().turn(is_on)

  def set_learning_rate(self, rate: float) -> None:
    """Changes the learning rate; raises ValueError."""
    self._learner().set_learning_rate(rate)

  def reset(self) -> None:
    """Resets the state of the model, not its parameters; tracked points are dropped."""
    with self._lock:
      self.watcher.reset()
      self._drop_points()
      self._make_baselines()
      if self.learner is not None:
        self.learner.restart()

  def report(self) -> str:
    """Returns the report of the stream so far, an HTML file; the stream does not wait for it."""
    with self._lock:
      records = list(self.curves.lines)
    return curves.report(self.config, records)

  def save(self, folder: pathlib.Path) -> pathlib.Path:
    """Writes a run with one checkpoint, which `inference.load` reads, and returns its folder.

    The stream does not wait for it.

    Args:
      folder: That holds the runs; the run gets a new one in it, named by the time.

    Raises:
      ValueError: Nothing is learned, or the parameters were lost.
      CheckpointError: It cannot be written.
    """
    learner = self._learner()
    trees = learner.trees()
    with self._lock:
      windows, score = int(trees["learner"].windows), self.curves.running.total()
      records = list(self.curves.lines)
    run = _new_folder(folder)
    config = codec.from_dict(codec.to_dict(self.config) | {"run_dir": str(run)})
    journal = {"lines": 0, "running": {}, "not_finite": 0.0, "non_finite": {}}
    meta = {"config": to_shared_dict(config), "stream": {}, "journal": journal}
    with Checkpoints(run, config.checkpoints) as checkpoints:
      checkpoints.save(windows, trees, meta, score)
      checkpoints.wait()
    curves.write_log(run, config, records)
    return run

  def close(self) -> None:
    """Ends the learner's thread, after its window; another tick starts it again."""
    if self.learner is not None:
      self.learner.close()

  def _learner(self) -> OnlineLearner:
    if self.learner is None:
      raise ValueError("live: this model only watches; start it without --no_learning.")
    return self.learner

  def _drop_points(self) -> None:
    for point in self._ids:
      self.drop(point)

  def _make_baselines(self) -> None:
    ahead = tuple(d for d in self.watcher.displacements if d > 0)
    if self.config.use_baselines and "pixels" in self.watcher.outputs:
      shape = self.watcher.model.modalities["pixels"].spec.shape
      self._baselines = FrameBaselines(ahead, *shape[:2])

  def _owned(self, inputs: Mapping[str, np.ndarray], before: Any) -> np.ndarray | None:
    """Returns the owner of each cell at every `owners_every`-th tick."""
    if not self.owners_every or self.ticks % self.owners_every:
      return None
    window = {name: value[None] for name, value in inputs.items()}
    found, _ = attention_maps(self.watcher.model, self.watcher.params, before, window, OWNER_GRID)
    return np.asarray(jax.device_get(found.owns.argmax(axis=-1)))[0, 0].astype(np.int32)

  def _scores(
    self,
    results: TickResults,
    known: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    is_first: bool,
  ) -> dict[str, dict[str, float]]:
    """Returns the errors of the predictions of this tick, and those of the baselines."""
    scores = {}
    for name, errors in results.errors.items():
      if name not in inputs or not inputs.get(valid_key(name), np.ones(1, bool))[0]:
        continue
      for i, d in enumerate(self.watcher.displacements):
        if known[i]:
          scores[str(ScoreKey(name, d))] = {who: float(x[i]) for who, x in errors.items()}
    if self._baselines is not None and "pixels" in inputs:
      valid = bool(inputs.get(valid_key("pixels"), np.ones(1, bool))[0])
      frame = np.asarray(inputs["pixels"][0], np.uint8)
      for d, more in self._baselines.score(frame, is_first=is_first, valid=valid).items():
        if key := scores.get(str(ScoreKey("pixels", d))):
          key |= {who: error for who, error in more.items() if who != "copy"}
    return scores


def _shows_owners(model: Model) -> bool:
  """Returns True if a model has attention that shows which latent owns which cell."""
  from perceiver_stream.models import stream_perceiver

  return isinstance(model.config, stream_perceiver.Config) and "pixels" in model.modalities


def _new_folder(parent: pathlib.Path) -> pathlib.Path:
  """Makes and returns a new folder, named by the time."""
  name = time.strftime("%Y%m%d-%H%M%S")
  for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
    try:
      (folder := parent / f"{name}{suffix}").mkdir(parents=True)
      return folder
    except FileExistsError:
      continue
  raise FileExistsError(f"{parent} has no free name for a run.")
