"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

from perceiver_stream.reporting.curves import LABELS
from perceiver_stream.reporting.score_keys import MODEL, PSNR, ScoreKey, reference
from perceiver_stream.reporting.scores import RunningScores


class Screen(Console):
  """A console that stays silent once its pipe is closed or its terminal gone; the run continues."""

  def on_broken_pipe(self) -> None:
    """Raises the error for `no_matter` to catch; rich would end the process."""
    raise

  @contextmanager
  def no_matter(self) -> Iterator[None]:
    """Ignores errors of writing in the block, and makes the console silent after the first."""
    try:
      yield
    except (OSError, ValueError):
      self.quiet = True
      with suppress(OSError, ValueError):  # or Python complains when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Bar(Progress):
  """A bar with the time, and below it lines of scores, wrapped where the terminal is narrow."""

  lines: str = ""

  def get_renderables(self) -> Iterable[RenderableType]:
    """Yields the bar and the lines below it."""
    yield self.make_tasks_table(self.tasks)
    if self.lines:
      yield Text(self.lines)


class Display:
  """Shows frames per second, scores, their gains over the baseline, and the time left."""

  def __init__(self, total: int | None, done: int, print_every: int, console: Screen | None = None):
    self.console = console or Screen(highlight=False, soft_wrap=True)
    self.total, self.print_every = total, print_every
    self._bar: Bar | None = None
    self._task = TaskID(0)
    if self.console.is_terminal:
      columns = (BarColumn(16), TextColumn("{task.description}"), TimeElapsedColumn())
      left = (Remaining(), TextColumn("left")) if total else ()
      self._bar = Bar(*columns, *left, console=self.console)
      self._task = self._bar.add_task(self._count(done), total=total, completed=done)
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
    if self._bar is not None:
      self._bar.lines = "\n".join(score_lines(running))
      text = "  ".join([self._count(window), *speed(timing)])
      with self.console.no_matter():
        self._bar.update(self._task, completed=window, description=text)
    elif window % self.print_every == 0 or window == self.total:
      left = eta(window, self.total, timing)
      self.say(f"{self._count(window)}  {describe(running, timing)}{left}")

  def _count(self, window: int) -> str:
    return f"window {window}/{self.total}" if self.total else f"window {window}"

  def close(self) -> None:
    """Leaves the terminal as it was."""
    if self._bar is not None:
      with self.console.no_matter():
        self._bar.stop()


def describe(running: RunningScores, timing: Mapping[str, Any]) -> str:
  """Returns the running numbers in a line: speed, then per key the model and its gain."""
  return "  ".join([*speed(timing), *score_lines(running)])


def speed(timing: Mapping[str, Any]) -> list[str]:
  """Returns the frames per second as text, or nothing before they are measured."""
  return [f"{timing['frames_per_s']:.1f} frames/s"] if "frames_per_s" in timing else []


def score_lines(running: RunningScores) -> list[str]:
  """Returns a line per output with score and gain at each displacement, and the baselines' names.

  >>> rows = {"audio@1": {"model": 5.0, "copy": 6.0}, "audio@4": {"model": 8.0, "copy": 6.0}}
  >>> score_lines(RunningScores(rows))
  ['audio@1 5 (+0.79)  @4 8 (-1.25)', '(in brackets: dB better than copy-last)']
  """
  lines: dict[str, list[str]] = {}
  others: dict[str, None] = {}
  for key, row in running.means.items():
    value, unit = (row[MODEL + PSNR], " dB") if MODEL + PSNR in row else (row.get(MODEL), "")
    gain, other = running.gain(key), reference(row)
    if value is None or gain is None or other is None:
      continue
    output, ahead = ScoreKey.parse(key)
    start = "" if output in lines else output
    lines.setdefault(output, []).append(f"{start}@{ahead} {value:.4g}{unit} ({gain:+.2f})")
    others[LABELS.get(other, other)] = None
  if not lines:
    return []
  return [*map("  ".join, lines.values()), f"(in brackets: dB better than {', '.join(others)})"]


def last_quarter(scores: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns a line per output and displacement: the model's score and those of the baselines."""
  lines = ["Over the last quarter, each prediction scored before the update that uses it:"]
  for key, row in scores.items():
    names = [n for n, value in row.items() if isinstance(value, float) and f"gain_over_{n}" in row]
    names = ["model", *(n for n in names if not n.startswith("extrap"))]
    cells = [
      f"{LABELS.get(name, name)} {row[name]:.4g}"
      for name in names
      if isinstance(row.get(name), float)
    ]
    lines.append(f"  {key:10} {', '.join(cells)}  ({row['metric']})")
  return "\n".join(lines)


def eta(window: int, total: int | None, timing: Mapping[str, Any]) -> str:
  """Returns the time left as text, or nothing if it is unknown."""
  if not total or not timing.get("windows_per_s"):
    return ""
  seconds = round((total - window) / timing["windows_per_s"])
  return f"  {seconds // 60}:{seconds % 60:02d} left"
