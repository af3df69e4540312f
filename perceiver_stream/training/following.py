"""Journal of a process that does not lead: running scores in memory, no files."""

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
    """Prints nothing."""


class Follower:
  """Replaces `Journal`: the same scores, so that all processes agree on the best checkpoint."""

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
    """Restores the state of the leading process's `Journal` from a checkpoint."""
    del folder, first, changed
    self.metric_names = metric_names
    self.running = RunningScores(*running_of(state))
    self.watch = Stopwatch(hop * config.num_rows)
    self.display = Silent()

  def state(self) -> dict[str, Any]:
    """Returns nothing, because the leading process writes the state."""
    return {}

  def record(self, told: PendingWindow) -> StepInfo:
    """Waits for a window's results and returns them as numpy."""
    info, errors = results(told, self.watch)
    self.running.add(window_scores(errors, self.metric_names), finite=bool(info.finite))
    return info

  def summary(self, **known: Any) -> dict[str, Any]:
    """Returns the result of `Journal.summary` without the last quarter, which is in its files."""
    gains = {key: self.running.gain(key) for key in self.running.means}
    return known | {"gains": gains, "last_quarter": {}}

  def close(self) -> None:
    """Does nothing: there are no files."""
