"""Output of a run, window by window: log lines, running scores, strips, the display."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from perceiver_stream.reporting import camera_path, run_files
from perceiver_stream.reporting.progress import Display
from perceiver_stream.reporting.runs import summarise
from perceiver_stream.reporting.score_keys import MODEL, ScoreKey
from perceiver_stream.reporting.scores import (
  Errors,
  RunningScores,
  Scores,
  joined,
  window_scores,
)
from perceiver_stream.reporting.strips import StripRecorder, WindowRecord
from perceiver_stream.reporting.tensorboard import TensorBoard
from perceiver_stream.training.config import ExperimentConfig, to_json
from perceiver_stream.training.run_folder import RunFolder
from perceiver_stream.training.step import StepInfo
from perceiver_stream.utils import atomic

Window = Mapping[str, np.ndarray]


class PendingWindow(NamedTuple):
  """A window that was dispatched to the device and is not logged yet.

  Attributes:
    number: Counted from 1 over all sessions of the run.
    window: As it came from the stream, `[W, B, ...]`.
    info: Output of the step, possibly still being computed.
    baselines: A function that waits for the errors of the host's baselines and returns them; or None.
    non_finite: Observations that were not finite so far, by modality.
    learned: False if the window was only watched.
  """

  number: int
  window: Window
  info: StepInfo
  baselines: Callable[[], Errors] | None
  non_finite: Mapping[str, int] = MappingProxyType({})
  learned: bool = True


class Stopwatch:
  """Measures frames per second and the share of time spent waiting for the host.

  It waits for data, and for baselines that are not ready when the model's own results are. The
  first window, which compiles, is not counted.
  """

  def __init__(self, frames_per_window: int):
    self.frames_per_window = frames_per_window
    self.windows = -1
    self._start = time.perf_counter()
    self._waited = 0.0

  def waiting(self, windows: Iterator[Window]) -> Iterator[Window]:
    """Yields the windows; the time spent here is waiting."""
    while True:
      try:
        window = self.wait(lambda: next(windows))
      except StopIteration:
        return
      yield window
      self.windows += 1
      if self.windows == 0:
        self._start, self._waited = time.perf_counter(), 0.0

  def wait(self, get: Callable[[], Any]) -> Any:
    """Returns the result of `get`, timed as waiting."""
    before = time.perf_counter()
    result = get()
    self._waited += time.perf_counter() - before
    return result

  def read(self) -> dict[str, float]:
    """Returns the rates so far, empty before the second window."""
    spent = time.perf_counter() - self._start
    if self.windows < 1:
      return {}
    rate = self.windows / spent
    return {
      "windows_per_s": rate,
      "frames_per_s": rate * self.frames_per_window,
      "wait_share": self._waited / spent,
    }


def results(pending: PendingWindow, watch: Stopwatch) -> tuple[StepInfo, Errors]:
  """Waits for a window and returns the output of the step as numpy, and the errors of all."""
  info = jax.device_get(pending.info._replace(predictions={}))
  errors = {key: info.scores[key].errors() for key in sorted(info.scores, key=ScoreKey.parse)}
  if pending.baselines is not None:
    for key, more in watch.wait(pending.baselines).items():
      if key in errors:
        errors[key] = joined(errors[key], more)
  return info, errors


def running_of(state: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], float]:
  """Returns means and the share of non-finite windows from a result of `Journal.state`."""
  return (state["running"], state.get("not_finite", 0.0)) if state else ({}, 0.0)


def non_finite_of(state: Mapping[str, Any] | None) -> dict[str, int]:
  """Returns the number of non-finite observations by modality from a result of `Journal.state`."""
  return dict(state.get("non_finite", {})) if state else {}


class NullJournal:
  """Journal of a process that does not lead: running scores in memory, no files.

  The scores are those of `Journal`, so that all processes agree on the best checkpoint.
  """

  def __init__(
    self,
    config: ExperimentConfig,
    metric_names: Mapping[str, str],
    hop: int,
    state: Mapping[str, Any] | None = None,
  ):
    """Starts the running scores, or continues them; see `Journal`."""
    self.metric_names = metric_names
    self.running = RunningScores(*running_of(state))
    self.watch = Stopwatch(hop * config.num_rows)

  def say(self, text: str) -> None:
    """Prints nothing."""

  def state(self) -> dict[str, Any]:
    """Returns nothing: the checkpoint has what the leading process returns."""
    return {}

  def record(self, pending: PendingWindow) -> StepInfo:
    """Waits for a window's results and returns them as numpy."""
    return self._scored(pending)[0]

  def summary(self, **known: Any) -> dict[str, Any]:
    """Returns the result of `Journal.summary`, without the last quarter, which is in its files."""
    return known | {"gains": self._gains(), "last_quarter": {}}

  def close(self) -> None:
    """Has nothing to close."""

  def _scored(self, pending: PendingWindow) -> tuple[StepInfo, Errors, dict[str, Any]]:
    """Returns the results of a window, which the running scores then contain."""
    info, errors = results(pending, self.watch)
    scores = window_scores(errors, self.metric_names)
    self.running.add(scores, finite=bool(info.finite))
    return info, errors, scores

  def _gains(self) -> dict[str, float | None]:
    return {key: self.running.gain(key) for key in self.running.means}


class Journal(NullJournal):
  """The open files of a run and its display."""

  def __init__(
    self,
    config: ExperimentConfig,
    metric_names: Mapping[str, str],
    hop: int,
    state: Mapping[str, Any] | None = None,
    *,
    folder: RunFolder,
    first: int = 0,
    changed: Mapping[str, str] | None = None,
  ):
    """Opens the files, truncated to the state of the checkpoint if the run is resumed.

    Args:
      config: Of the run.
      metric_names: Of each modality.
      hop: Ticks from one window to the next.
      state: Result of `state` at a checkpoint; None starts afresh.
      folder: Of the run.
      first: Windows already processed.
      changed: Fields of the config that have changed since, each with "old -> new"; they
        are written into the next line of the log.

    Raises:
      CheckpointError: A file cannot be written.
    """
    super().__init__(config, metric_names, hop, state)
    self.folder, self.config, self.hop = folder, config, hop
    self.changed = dict(changed or {})
    self.non_finite = non_finite_of(state)
    self.collapsed = False
    self.tensorboard = None
    path = folder.path
    with folder.writing("The log"):
      atomic.write_text(path / run_files.CONFIG, to_json(config) + "\n")
      self.strips = StripRecorder(path, config.logging.strips_every, hop, first)
      self.metrics = run_files.JsonLines(path / run_files.METRICS, state["lines"] if state else 0)
      timing = path / run_files.TIMING
      self.timing = run_files.JsonLines(timing, run_files.lines_until(timing, first))
      if config.logging.use_tensorboard:
        self.tensorboard = TensorBoard(path / run_files.TENSORBOARD, first)
    self.first = first
    self.camera: run_files.JsonLines | None = None
    self.display = Display(config.max_windows or None, first, config.logging.print_every)

  def say(self, text: str) -> None:
    """Prints a line."""
    self.display.say(text)

  def state(self) -> dict[str, Any]:
    """Returns the argument `state` of the constructor that resumes here, as JSON."""
    with self.folder.writing("The log"):
      self.metrics.sync()
    return {
      "lines": self.metrics.num_lines,
      "running": self.running.means,
      "not_finite": self.running.not_finite,
      "non_finite": self.non_finite,
    }

  def record(self, pending: PendingWindow) -> StepInfo:
    """Waits for a window's results, writes its line, and returns them as numpy."""
    info, errors, scores = self._scored(pending)
    line = self._line(pending, info) | {"scores": scores}
    if self.changed:
      line["changed"], self.changed = self.changed, {}
    timing = self.watch.read()
    piece = WindowRecord(pending.window, pending.info.predictions, errors)
    with self.folder.writing("The log"):
      self.metrics.append(line)
      if self.tensorboard is not None:
        self.tensorboard.add(pending.number, line)
      self.strips.add(pending.number, piece)
      self._write_camera(pending)
      if timing and pending.number % self.config.logging.print_every == 0:
        self._write_timing(pending.number, timing)
    self._warn_of_collapse(pending.number, scores)
    self.display.update(pending.number, self.running, timing)
    return info

  def _warn_of_collapse(self, number: int, scores: Scores) -> None:
    """Prints a line when features begin to collapse; see `nn.losses.collapse`."""
    collapsed = bool(scores.get("collapse_alarm@0", {}).get(MODEL))
    if collapsed and not self.collapsed:
      std, cosine = (scores[f"collapse_{n}@0"][MODEL] for n in ("std", "cosine"))
      self.say(
        f"ALARM: at window {number} features collapse: std·√d {std:.3f} (healthy is near 1), cosine "
        f"of different samples {cosine:.3f} (healthy is near 0)."
      )
    self.collapsed = collapsed

  def summary(self, **known: Any) -> dict[str, Any]:
    """Writes summary.json, with the last quarter's scores and the rates, and returns it."""
    with self.folder.writing("The summary"):
      scores = summarise(self.folder.path)["scores"]
      summary = known | self.watch.read() | {"gains": self._gains(), "last_quarter": scores}
      summary["non_finite"] = self.non_finite
      atomic.write_text(self.folder.path / run_files.SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary

  def close(self) -> None:
    """Closes the files and the display."""
    for part in (self.display, self.metrics, self.timing, self.camera, self.tensorboard):
      if part is not None:
        part.close()

  def _line(self, pending: PendingWindow, info: StepInfo) -> dict[str, Any]:
    finite = lambda x: float(x) if np.isfinite(x) else None  # noqa: E731
    line = {
      "window": pending.number,
      "ticks": pending.number * self.hop,
      "loss": finite(info.loss),
      "grad_norm": finite(info.grad_norm),
      "skipped": int(info.skipped),
    }
    if not pending.learned:
      line["learned"] = False
    self.non_finite = dict(pending.non_finite)
    if self.non_finite:
      line["non_finite"] = self.non_finite
    if "timestamp_s" in pending.window:
      line["timestamp_s"] = finite(pending.window["timestamp_s"][-1, 0])
    return line

  def _write_camera(self, pending: PendingWindow) -> None:
    """Writes the camera's motions, if the objective predicts them."""
    if camera_path.KEY not in pending.info.predictions:
      return
    if self.camera is None:
      path = self.folder.path / run_files.CAMERA_PATH
      self.camera = run_files.JsonLines(path, run_files.lines_until(path, self.first))
    motions = jax.device_get(pending.info.predictions[camera_path.KEY])
    if line := camera_path.line_of(pending.number, motions, pending.window):
      self.camera.append(line)

  def _write_timing(self, number: int, timing: Mapping[str, Any]) -> None:
    self.timing.append({"window": number, "time": time.time(), **timing})
    if self.tensorboard is not None:
      self.tensorboard.add(number, {"timing": timing})
