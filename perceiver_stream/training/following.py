"""What a process that does not lead keeps of a run: running scores in memory, no files."""

from collections.abc import Mapping
from typing import Any

from perceiver_stream.reporting.scores import RunningScores, window_scores
from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.training.journal import PendingWindow, Stopwatch, results, running_of
from perceiver_stream.training.run_folder import RunFolder
from perceiver_stream.training.step import StepInfo


class Silent:
  """A display that shows nothing."""

  def say(self, text: str) -> None:
    """Says nothing."""


class Follower:
  """Stands in for `Journal`: the same scores, so that all agree on the best checkpoint."""

  def __init__(
    self,
    folder: RunFolder,
    config: ExperimentConfig,
    metric_names: Mapping[str, str],
    hop: int,
    *,
    first: int = 0,
    state: Mapping[str, Any] | None = None,
    changed: Mapping[str, str] | None = None,
  ):
    """Goes on from what the `Journal` of the process that leads kept in a checkpoint."""
    del folder, first, changed
    self.metric_names = metric_names
    self.running = RunningScores(*running_of(state))
    self.watch = Stopwatch(hop * config.num_rows)
    self.display = Silent()

  def state(self) -> dict[str, Any]:
    """Returns nothing: the process that leads writes what is kept."""
    return {}

  def record(self, told: PendingWindow) -> StepInfo:
    """Waits for a window's results and returns them as numpy."""
    info, errors = results(told, self.watch)
    self.running.add(window_scores(errors, self.metric_names), finite=bool(info.finite))
    return info

  def summary(self, **known: Any) -> dict[str, Any]:
    """Returns what `Journal.summary` does, without the last quarter, which is in its files."""
    gains = {key: self.running.gain(key) for key in self.running.means}
    return known | {"gains": gains, "last_quarter": {}}

  def close(self) -> None:
    """Has nothing to close."""
