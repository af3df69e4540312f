"""Film strips on disk: input, predictions and errors of successive windows, for the report.

A window is a file of its own, `strips/<last window of the strip>-<window>.npz`, so that a run can
be cut back to any window without losing part of a strip. Arrays of one row:

  <modality>                            [T, ...]  the window as it came in
  <output>@<displacement>               [K, ...]  predictions for the last K ticks
  <modality>@<displacement>/<predictor> [K]       their errors; `valid` where there was a target
"""

import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perceiver_stream.files.array_files import read_npz

FOLDER = "strips"
_NAME = re.compile(r"(\d{8,18})(?:-(\d{8,18}))?\.npz")


class Strip(NamedTuple):
  """The files of a strip.

  Attributes:
    number: Of its last window.
    paths: Of its windows, in order; some may be missing.
  """

  number: int
  paths: list[pathlib.Path]


def path_of(run_dir: pathlib.Path, strip: int, window: int) -> pathlib.Path:
  """Returns the file of a window of the strip that ends with window number `strip`."""
  return run_dir / FOLDER / f"{strip:08d}-{window:08d}.npz"


def numbers_of(path: pathlib.Path) -> tuple[int, int] | None:
  """Returns the numbers of strip and window of a file; None for a file that is no strip's.

  Runs of earlier versions have one file per strip, named after its last window.

  >>> numbers_of(pathlib.Path("00000050-00000049.npz")), numbers_of(pathlib.Path("00000050.npz"))
  ((50, 49), (50, 50))
  """
  found = _NAME.fullmatch(path.name)
  return found and (int(found[1]), int(found[2] or found[1]))


def find(run_dir: pathlib.Path) -> list[Strip]:
  """Returns the strips in the folder of a run, in order."""
  files: dict[int, list[tuple[int, pathlib.Path]]] = {}
  folder = run_dir / FOLDER
  for path in folder.iterdir() if folder.is_dir() else ():
    if (numbers := numbers_of(path)) and path.is_file():
      files.setdefault(numbers[0], []).append((numbers[1], path))
  return [Strip(n, [path for _, path in sorted(files[n])]) for n in sorted(files)]


def read(paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
  """Returns the arrays of a strip, its windows put together.

  Raises:
    ValueError: A file is no archive of arrays, damaged, or too large.
  """
  windows = [_read(path) for path in paths]
  joined = windows[0]
  for window in windows[1:]:
    num = next((len(x) for name, x in window.items() if _is_prediction(name)), 0)
    joined = {
      name: np.concatenate([joined[name], x if "@" in name else x[len(x) - num :]])
      for name, x in window.items()
      if name in joined
    }
  return joined


def _is_prediction(name: str) -> bool:
  return "@" in name and "/" not in name


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    return read_npz(path)
  except (OSError, ValueError) as error:
    raise ValueError(f"{path.name} cannot be read: {error}") from error
