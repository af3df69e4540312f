"""Recorder of film strips: input, targets and predictions of some windows, for the report."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from perceiver_stream.reporting import run_files

MIN_TICKS = 8  # in a strip; short windows are joined
MAX_STRIPS = 16  # stored; beyond that every other old one is deleted

Errors = Mapping[str, Mapping[str, np.ndarray]]


class WindowRecord(NamedTuple):
  """One window of a strip.

  Attributes:
    window: Input, `[W, B, ...]`.
    predictions: By `"<output>@<displacement>"`, `[K, B, ...]`, for the last K ticks.
    errors: By `"<modality>@<displacement>"` and predictor, `[K, B]`.
  """

  window: Mapping[str, np.ndarray]
  predictions: Mapping[str, jax.Array]
  errors: Errors


class StripRecorder:
  """Records a strip of at least `MIN_TICKS` ticks, every so many windows.

  The set of files depends only on the number of the newest window, so a run that was killed and
  resumed has the same files as one that never stopped.
  """

  def __init__(self, run_dir: pathlib.Path, every: int, hop: int, first: int = 0):
    """Deletes the strips of windows later than `first`.

    Args:
      run_dir: Folder of the run.
      every: Strips end at windows number `every`, 2 * `every`, …; 0 is none.
      hop: Ticks from one window to the next.
      first: Windows done before.
    """
    self.run_dir, self.every, self.hop = run_dir, every, hop
    self.num_windows = min(every, -(-MIN_TICKS // hop))
    for strip in run_files.find_strips(run_dir):
      for path in strip.paths:
        numbers = run_files.strip_numbers(path)
        if numbers and numbers[1] > first:
          path.unlink()

  def add(self, number: int, piece: WindowRecord) -> None:
    """Writes the next window if it belongs to a strip."""
    left = -number % self.every if self.every else 0
    if not self.every or left >= self.num_windows:
      return
    every_tick = all(len(x) == self.hop for x in piece.predictions.values())
    if left and not every_tick:  # windows do not join: only the last is shown
      return
    save(run_files.strip_path(self.run_dir, number + left, number), piece)
    if not left:
      self._thin(number)

  def _thin(self, newest: int) -> None:
    """Deletes all but the newest strip and every n-th of those before it."""
    stride = self.every
    while -(-newest // stride) > MAX_STRIPS:
      stride *= 2
    for strip in run_files.find_strips(self.run_dir):
      mine = strip.number % self.every == 0  # others are from before the interval was changed
      if mine and strip.number < newest and strip.number % stride:
        for path in strip.paths:
          path.unlink()


def save(path: pathlib.Path, piece: WindowRecord) -> None:
  """Writes the first row of a window, complete or not at all; see `run_files`."""
  arrays = {name: array[:, 0] for name, array in piece.window.items()}
  arrays |= {name: array[:, 0] for name, array in jax.device_get(dict(piece.predictions)).items()}
  for key, by_predictor in piece.errors.items():
    arrays |= {f"{key}/{name}": np.asarray(error)[:, 0] for name, error in by_predictor.items()}
  run_files.write_strip_window(path, arrays)
