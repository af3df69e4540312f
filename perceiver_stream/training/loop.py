"""The online loop: score a window, train on it, continue with the next; in order, once.

`lab.running` is a second loop over the same `Objective`: whole short runs as one program, for tables of
many seeds and learning rates. This one reads a stream of any length, and stops, saves and resumes at
any window, which a compiled scan cannot.
"""

import shlex
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from perceiver_stream.files import codec
from perceiver_stream.modalities import NonFinite
from perceiver_stream.reporting.progress import last_quarter
from perceiver_stream.reporting.report import write_report
from perceiver_stream.streams.wrapped import dropped, is_live
from perceiver_stream.training import step
from perceiver_stream.training.checkpoints import CheckpointError, Checkpoints
from perceiver_stream.training.config import (
  CHANGEABLE,
  FREE,
  ExperimentConfig,
  differences,
  logged_changes,
  to_shared_dict,
)
from perceiver_stream.training.distributed import Rows, SharedWindows, any_of, leads
from perceiver_stream.training.journal import Journal, NullJournal, PendingWindow, non_finite_of
from perceiver_stream.training.mesh import make_mesh, own_rows, place, put, shape_of
from perceiver_stream.training.optimizers import make_optimizer
from perceiver_stream.training.pace import Pace
from perceiver_stream.training.parts import Parts, make_parts
from perceiver_stream.training.signals import StopRequest, stop_on_signals
from perceiver_stream.types import IS_FIRST, valid_key
from perceiver_stream.utils.allocator import keep_freed_memory
from perceiver_stream.version import __version__


class NonFiniteError(RuntimeError):
  """Too many windows in a row had a loss or gradient that is not finite."""


class Summary(NamedTuple):
  """Result of a run.

  Attributes:
    run_dir: Folder of the run.
    windows: Windows processed, in all sessions of the run together.
    finished: True if the end of the stream, or `max_windows`, was reached.
    stopped_by: Name of the signal that stopped it, or "".
    skipped: Windows skipped because a value was not finite.
    gains: Running gain over copying in dB, by `"<modality>@<displacement>"`.
  """

  run_dir: str
  windows: int
  finished: bool
  stopped_by: str
  skipped: int
  gains: dict[str, float | None]


def train(config: ExperimentConfig, parts: Parts | None = None) -> Summary:
  """Trains online on a stream and returns a summary of the run.

  A run found in `config.run_dir` resumes from its newest checkpoint, exactly as if it had never
  stopped. ctrl-C and SIGTERM finish the window, save, and return.

  Args:
    config: The experiment.
    parts: Model, objective and windows, to train without a config for them.

  Raises:
    CheckpointError: The folder cannot be written, or holds another run.
    NonFiniteError: `max_bad_windows` windows in a row were not finite.
  """
  config.validate()
  keep_freed_memory()
  with stop_on_signals() as stop, Checkpoints(config.run_dir, config.checkpoints) as checkpoints:
    run = Run(parts or make_parts(config), checkpoints)
    try:
      return run.go(stop)
    finally:
      run.close()


class Learner:
  """The train state on its devices, and the step that changes it."""

  def __init__(self, parts: Parts):
    config = parts.config
    self.num_rows = config.num_rows
    self.mesh = make_mesh(config.mesh, config.num_rows)
    optimizer = make_optimizer(config.optimizer)
    objective = parts.objective
    self.state, self.sharding = step.placed_train_state(
      self.mesh, objective, optimizer, parts.observation, config.seed, parts.params
    )
    self._step = step.make_train_step(
      objective.loss_and_grad, optimizer, self.sharding, config.num_rows
    )
    self._watch = step.make_watch_step(objective, self.sharding, config.num_rows)
    self._observation = parts.observation

  def learn(self, window: Mapping[str, np.ndarray], *, update: bool = True) -> step.StepInfo:
    """Dispatches one training step asynchronously and returns its output.

    In multi-process runs every process passes its own rows; scores are global, predictions are those of
    the rows of its first device.

    Args:
      window: Arrays `[W, B, ...]`.
      update: False leaves the parameters as they are; the state advances, and all is scored.
    """
    shown = place(self.mesh, self.num_rows, visible(window, self._observation))
    self.state, info = (self._step if update else self._watch)(self.state, shown)
    if jax.process_count() == 1:
      return info
    return info._replace(
      predictions=jax.tree.map(lambda x: x.addressable_data(0), info.predictions)
    )

  def compile_watching(self, window: Mapping[str, np.ndarray]) -> None:
    """Compiles the step without an update, for windows of these shapes."""
    shown = place(self.mesh, self.num_rows, visible(window, self._observation))
    self._watch = self._watch.lower(self.state, shown).compile()  # type: ignore[attr-defined]

  def trees(self) -> dict[str, Any]:
    """Returns the content of a checkpoint, by name."""
    return {"params": self.state.params, "learner": self.state._replace(params=())}

  def load(self, trees: Mapping[str, Any]) -> None:
    """Restores the result of `trees`."""
    state = trees["learner"]._replace(params=trees["params"])
    self.state = put(state, self.sharding)


class Run:
  """One session of a run, from where the last one stopped."""

  def __init__(self, parts: Parts, checkpoints: Checkpoints):
    self.config, self.parts, self.checkpoints = parts.config, parts, checkpoints
    self.learner = Learner(parts)
    hop = parts.objective.config.window
    self.hop, self.windows = hop, iter(parts.windows)
    self.rows = Rows(own_rows(self.learner.mesh, self.config.num_rows), self.config.num_rows)
    if jax.process_count() > 1:
      self.windows = SharedWindows(self.windows, self.rows, hop)
    self.number, self.saved, self.bad_run = 0, 0, 0
    journal_state, changed = None, {}
    restored = checkpoints.restore(self._trees(), self._check)
    if restored is not None:
      self.learner.load(restored.trees)
      if parts.baselines:
        parts.baselines.restore(restored.trees["baselines"])
      self.windows.set_state(restored.meta["stream"])  # type: ignore[attr-defined]
      self.number = self.saved = restored.step
      journal_state = restored.meta["journal"]
      changed = logged_changes(restored.meta["config"], codec.to_dict(self.config))
    self.finite = NonFinite(parts.modalities, non_finite_of(journal_state))
    known = (self.config, parts.metric_names, hop, journal_state)
    files = {"folder": checkpoints.run_folder, "first": self.number, "changed": changed}
    self.journal = Journal(*known, **files) if leads() else NullJournal(*known)
    self.helper = ThreadPoolExecutor(1, "baselines")
    self.pending: PendingWindow | None = None
    self.compiled = False
    self.pace = Pace() if is_live(self.windows) and jax.process_count() == 1 else None
    self.journal.say(self._headline())
    for key, change in changed.items():
      self.journal.say(f"  from window {self.number + 1} on, {key}: {change}")

  def go(self, stop: StopRequest) -> Summary:
    """Trains until the stream ends, `max_windows` is reached or a stop is requested."""
    last = self.config.max_windows
    finished = bool(last) and self.number >= last
    watched = () if finished else self.journal.watch.waiting(self.windows)
    for window in watched:
      self._watch(window)
      finished = self.number == last
      if any_of(bool(stop)) or finished:
        break
      if self.number % self.config.checkpoints.every == 0:
        self._save()
    else:
      finished = True
    self._save()
    self.checkpoints.wait()
    return self._end(finished, "" if finished else stop.reason or "another process")

  def close(self) -> None:
    """Ends threads and closes files."""
    self.helper.shutdown(cancel_futures=True)
    self.journal.close()
    close = getattr(self.windows, "close", None)
    if close is not None:
      close()

  def _watch(self, window: Mapping[str, np.ndarray]) -> None:
    """Dispatches the training on a window; then, while it is computed, logs the previous one."""
    window = self.finite(window, self.hop if self.number else None)
    baselines = self.parts.baselines
    computed = self.helper.submit(baselines, window) if baselines else None
    errors = computed and (lambda: self.rows.joined_errors(computed.result()))
    learned = self.pace is None or self.pace.learns()
    started = time.perf_counter()
    info = self.learner.learn(window, update=learned)
    if not self.compiled:
      self._compiled(window, started)
    before, self.number = self.pending, self.number + 1
    self.pending = PendingWindow(
      self.number, window, info, errors, dict(self.finite.counts), learned
    )
    self._record(before)
    if self.pace is not None and (change := self.pace.after(dropped(self.windows))):
      self.journal.say(f"Window {self.number}: {change}")

  def _compiled(self, window: Mapping[str, np.ndarray], started: float) -> None:
    """Compiles what a live stream may need later, when there is no time for it."""
    self.compiled = True
    if self.pace is not None:
      self.learner.compile_watching(window)
      self.pace.begin(dropped(self.windows))
    self.journal.say(f"Compiled in {time.perf_counter() - started:.0f} s.")

  def _record(self, pending: PendingWindow | None) -> None:
    if pending is None:
      return
    info = self.journal.record(pending)
    self.bad_run = int(info.bad_run)
    if self.bad_run >= self.config.max_bad_windows:
      raise NonFiniteError(
        f"{self.bad_run} windows in a row, up to window {pending.number}, had a loss, gradient, "
        f"parameters or state that are not finite, and were skipped (loss {float(info.loss)}, "
        f"gradient norm {float(info.grad_norm)}). {self._set_aside(pending.number)} Lower the "
        f"learning rate, or optimizer.clip_norm, and resume the same run:\n"
        f"  {self._command()} --config.optimizer.learning_rate="
        f"{self.config.optimizer.learning_rate / 10:.3g}\n"
        f"If that does not help, look at the stream there."
      )

  def _set_aside(self, newest: int) -> str:
    """Sets aside the checkpoints without any finite window after them, and returns a message."""
    aside = self.checkpoints.set_aside_from(newest - self.bad_run, "diverged")
    left = self.checkpoints.newest()
    start = "starts again from the first window" if left is None else f"resumes from {left}"
    moved = f"Checkpoints {aside} were renamed to diverged-…; the run" if aside else "The run"
    return f"{moved} {start}."

  def _command(self) -> str:
    return f"perceiver-stream train --resume={shlex.quote(self.config.run_dir)}"

  def _save(self) -> None:
    """Brings the log up to date and writes a checkpoint, unless nothing has changed."""
    pending, self.pending = self.pending, None
    self._record(pending)
    if self.number == self.saved:
      return
    meta = {
      "config": to_shared_dict(self.config),
      "stream": self.windows.get_state(),  # type: ignore[attr-defined]
      "journal": self.journal.state(),
    }
    score = self.journal.running.total()
    self.checkpoints.save(self.number, self._trees(), meta, score, self.bad_run)
    self.saved = self.number

  def _trees(self) -> dict[str, Any]:
    baselines = self.parts.baselines
    return self.learner.trees() | ({"baselines": baselines.state()} if baselines else {})

  def _headline(self) -> str:
    size = sum(x.size for x in jax.tree.leaves(self.learner.state.params))
    devices = f"{shape_of(self.learner.mesh)}, {jax.devices()[0].device_kind}"
    start = f"resuming from window {self.number}" if self.number else "starting"
    return f"{size / 1e6:.2f} M parameters on {devices}; {start} in {self.config.run_dir}."

  def _check(self, meta: Mapping[str, Any]) -> None:
    different = differences(meta["config"], codec.to_dict(self.config))
    if different:
      raise CheckpointError(
        f"{self.config.run_dir} holds a run with another config ({'; '.join(different)}). Use its "
        f"settings to resume, or another --config.run_dir to start anew. What may change: "
        f"{', '.join((*CHANGEABLE, *FREE))}."
      )

  def _end(self, finished: bool, stopped_by: str) -> Summary:
    skipped = int(self.learner.state.skipped)
    known = {
      "run_dir": self.config.run_dir,
      "windows": self.number,
      "finished": finished,
      "stopped_by": stopped_by,
      "skipped": skipped,
    }
    more = {"pace": self.pace.counts()} if self.pace is not None else {}
    written = self.journal.summary(version=__version__, devices=_devices(), **known, **more)
    say = self.journal.say
    say(last_quarter(written["last_quarter"]))
    if self.pace is not None:
      say(self.pace.total())
    if self.config.logging.use_report and leads():
      with self.checkpoints.run_folder.writing("The report"):
        say(f"Report: {write_report(self.config.run_dir)}")
    if stopped_by:
      say(f"Stopped by {stopped_by} after window {self.number}; all is saved. To resume:")
      say(f"  {self._command()}")
    return Summary(**known, gains=written["gains"])


def visible(window: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
  """Returns the model's inputs in a window: the named modalities and their flags."""
  known = {IS_FIRST, *names, *map(valid_key, names)}
  return {name: value for name, value in window.items() if name in known}


def _devices() -> list[str]:
  return [device.device_kind for device in jax.devices()]
