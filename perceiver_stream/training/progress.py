"""What one sees while it learns: a progress bar on a terminal, plain lines anywhere else."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

from perceiver_stream.evaluation.curves import LABELS
from perceiver_stream.evaluation.runs import reference
from perceiver_stream.training.scores import RunningScores


class Screen(Console):
  """A console; a run must not end because its pipe was closed or its terminal is gone."""

  def on_broken_pipe(self) -> None:
    """Leaves the error to `no_matter`; rich would end the process."""
    raise

  @contextmanager
  def no_matter(self) -> Iterator[None]:
    """Goes silent where there is nobody left to write to."""
    try:
      yield
    except (OSError, ValueError):
      self.quiet = True
      with suppress(OSError, ValueError):  # or Python complains when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Display:
  """Shows frames per second, PSNR, the gain over the baseline, and the time left."""

  def __init__(self, total: int | None, done: int, print_every: int, console: Screen | None = None):
    self.console = console or Screen(highlight=False, soft_wrap=True)
    self.total, self.print_every = total, print_every
    self._bar: Progress | None = None
    self._task = TaskID(0)
    if self.console.is_terminal:
      columns = (BarColumn(24), TextColumn("{task.completed}/{task.total} {task.description}"))
      self._bar = Progress(*columns, TimeElapsedColumn(), Remaining(), console=self.console)
      self._task = self._bar.add_task("windows", total=total, completed=done)
      with self.console.no_matter():
        self._bar.start()
      if self.console.quiet:
        self._bar = None

  def say(self, text: str) -> None:
    """Prints one line above the bar."""
    with self.console.no_matter():
      self.console.print(text, markup=False)

  def update(self, window: int, running: RunningScores, timing: Mapping[str, Any]) -> None:
    """Shows the newest numbers."""
    text = describe(running, timing)
    if self._bar is not None:
      with self.console.no_matter():
        self._bar.update(self._task, completed=window, description=text)
    elif window % self.print_every == 0 or window == self.total:
      of = f"/{self.total}" if self.total else ""
      left = eta(window, self.total, timing)
      self.say(f"window {window}{of}  {text}{left}")

  def close(self) -> None:
    """Leaves the terminal as it was."""
    if self._bar is not None:
      with self.console.no_matter():
        self._bar.stop()


def describe(running: RunningScores, timing: Mapping[str, Any]) -> str:
  """Returns the running numbers in a line: speed, then per key the model and its gain."""
  parts = [f"{timing['frames_per_s']:.1f} frames/s"] if "frames_per_s" in timing else []
  for key, row in running.means.items():
    value, unit = (row["model_psnr"], " dB") if "model_psnr" in row else (row.get("model"), "")
    gain = running.gain(key)
    if value is not None and gain is not None:
      parts.append(f"{key} {value:.3g}{unit} ({gain:+.2f} on {reference(row)})")
  return "  ".join(parts)


def last_quarter(scores: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns a line per output and displacement: the model beside the baselines that say most."""
  lines = ["Over the last quarter, each prediction scored before it was learnt from:"]
  for key, row in scores.items():
    names = [n for n, value in row.items() if isinstance(value, float) and f"gain_over_{n}" in row]
    names = ["model", *(n for n in names if not n.startswith("extrap"))]
    cells = [f"{LABELS.get(name, name)} {row[name]:.2f}" for name in names if row.get(name)]
    lines.append(f"  {key:10} {', '.join(cells)}  ({row['metric']})")
  return "\n".join(lines)


def eta(window: int, total: int | None, timing: Mapping[str, Any]) -> str:
  """Returns the time left in words, or nothing where it cannot be known."""
  if not total or not timing.get("windows_per_s"):
    return ""
  seconds = round((total - window) / timing["windows_per_s"])
  return f"  {seconds // 60}:{seconds % 60:02d} left"
