"""Learning curves of bounded length, and the report made from them."""

import json
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from perceiver_stream.reporting import run_files
from perceiver_stream.reporting.report import report_html
from perceiver_stream.reporting.runs import read_run
from perceiver_stream.reporting.scores import RunningScores, window_scores
from perceiver_stream.training.config import ExperimentConfig, to_json
from perceiver_stream.utils.paths import user_path

Scores = Mapping[str, Mapping[str, Any]]


class Curves:
  """Scores of successive windows of ticks, as `training` logs them.

  Memory is bounded: where there are `max_lines`, every second one is dropped, and from then on only
  every second new one is kept.

  Attributes:
    running: Running means of all scores.
    lines: Records of windows, as in `metrics.jsonl`.
    points: For each line, its ticks and the running means after it.
  """

  def __init__(self, window: int, metric_names: Mapping[str, str], max_lines: int = 2048):
    """Starts empty, with windows of `window` ticks."""
    self.running = RunningScores()
    self.lines: list[dict[str, Any]] = []
    self.points: list[dict[str, Any]] = []
    self._window, self._metric_names, self._max_lines = window, metric_names, max_lines
    self._ticks: list[Scores] = []
    self._number, self._stride = 0, 1

  def add(self, scores: Scores, **facts: Any) -> bool:
    """Adds the errors of a tick by key and predictor; returns True if a window is complete.

    Args:
      scores: Errors, as of `Session.observe`; a key that has no prediction is left out.
      facts: For the record of the window.
    """
    self._ticks.append(scores)
    if len(self._ticks) < self._window:
      return False
    ticks, self._ticks = self._ticks, []
    keys = sorted({key for tick in ticks for key in tick})
    found = window_scores(
      {key: _joined([t[key] for t in ticks if key in t]) for key in keys}, self._metric_names
    )
    self.running.add(found)
    self._number += 1
    if self._number % self._stride == 0:
      ticks_so_far = self._number * self._window
      line = {"window": self._number, "ticks": ticks_so_far}
      self.lines.append({**line, **facts, "scores": found})
      means = {key: dict(row) for key, row in self.running.means.items()}
      self.points.append({"tick": ticks_so_far, "scores": means})
    if len(self.lines) >= self._max_lines:
      self.lines, self.points = self.lines[1::2], self.points[1::2]
      self._stride *= 2
    return True


def write_log(
  folder: pathlib.Path, config: ExperimentConfig, records: Iterable[Mapping[str, Any]]
) -> None:
  """Writes the config and the log of a run, records as of `Curves.lines`, into its folder."""
  (folder / run_files.CONFIG).write_text(to_json(config) + "\n", encoding="utf-8")
  lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in records)
  (folder / run_files.METRICS).write_text(lines, encoding="utf-8")


def report(config: ExperimentConfig, records: Iterable[Mapping[str, Any]]) -> str:
  """Returns the report of records as of `Curves.lines`, an HTML file; nothing stays on the disk."""
  with tempfile.TemporaryDirectory() as folder:
    run = user_path(folder) / "live"
    run.mkdir()
    write_log(run, config, records)
    return report_html(read_run(run))


def _joined(ticks: list[Mapping[str, float]]) -> dict[str, np.ndarray]:
  """Returns the errors of all predictors that every tick has, `[K, 1]`, with `valid`."""
  names = [name for name in ticks[0] if all(name in tick for tick in ticks)]
  errors = {name: np.array([[tick[name]] for tick in ticks], np.float64) for name in names}
  return {**errors, "valid": np.ones((len(ticks), 1), bool)}
