"""The format of a run's folder: names of its files, their readers and their writers.

  config.json         the experiment; see `files.codec`
  metrics.jsonl       a line per window; nothing in it depends on the machine, so a run that was
                      stopped and resumed has the lines of one that never was
  timing.jsonl        rates, every few windows
  camera_path.jsonl   motions of the camera, in runs that learn them; see `reporting.camera_path`
  summary.json        the end of the run; missing while it runs
  report.html         made of the files above and the strips
  checkpoints/        a folder per step; see `training.checkpoint_files`
  tensorboard/        event files of the same numbers
  strips/             film strips, a file per window: `<last window of the strip>-<window>.npz`, so
                      that a run can be cut back to any window without losing part of a strip

A strip's file holds arrays of one row:

  <modality>                            [T, ...]  the window as it came in
  <output>@<displacement>               [K, ...]  predictions for the last K ticks
  <modality>@<displacement>/<predictor> [K]       their errors; `valid` where there was a target

Any file may be missing and a last line half written: readers skip unreadable parts.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.files.array_files import read_npz
from perceiver_stream.reporting.score_keys import is_score_key
from perceiver_stream.utils import atomic

CONFIG = "config.json"
METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
CAMERA_PATH = "camera_path.jsonl"
SUMMARY = "summary.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
STRIPS = "strips"

_COUNTS = ("window", "ticks", "skipped")  # of a line, where it has them
_LARGEST = 1e300  # of numbers, except NaN
_STRIP_NAME = re.compile(r"(\d{8,18})(?:-(\d{8,18}))?\.npz")


# --- lines of JSON --------------------------------------------------------------------------------


class Appended:
  """A file to whose end records are written, each of them at once."""

  def __init__(self, path: pathlib.Path, size: int = 0):
    """Opens the file and cuts it to its first `size` bytes."""
    self.path = path
    self._file = path.open("r+b" if path.exists() else "wb", buffering=0)
    self._file.truncate(size)
    self._file.seek(size)

  def write(self, record: bytes) -> None:
    """Writes a record; raises OSError where not all of it could be written."""
    left = memoryview(record)
    while left:
      left = left[self._file.write(left) :]

  def sync(self) -> None:
    """Returns when everything is on the disk, where a checkpoint will count on it."""
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file; nothing waits to be written."""
    self._file.close()


class JsonLines(Appended):
  """A file of one JSON object per line that can be truncated to the state of a checkpoint."""

  def __init__(self, path: pathlib.Path, keep_lines: int = 0):
    """Opens the file, truncated to its first lines.

    Raises:
      ValueError: It has fewer.
    """
    kept = []
    if keep_lines and path.exists():
      lines = limits.read_bytes(path).splitlines(keepends=True)[:keep_lines]
      kept = [line for line in lines if line.endswith(b"\n")]
    if len(kept) < keep_lines:
      raise ValueError(
        f"{path} has {len(kept)} lines, but the checkpoint needs {keep_lines}; it was "
        f"changed since. Restore it, or start again in another run_dir."
      )
    self.num_lines = len(kept)
    super().__init__(path, sum(map(len, kept)))

  def append(self, record: Mapping[str, Any]) -> None:
    """Writes one line; numbers that are not finite must have become None before."""
    self.write(json.dumps(record, allow_nan=False).encode() + b"\n")
    self.num_lines += 1


class Lines(NamedTuple):
  """Contents of a file of JSON lines.

  Attributes:
    records: Objects, one per line.
    num_broken: Lines that are none, among them a last line cut short.
  """

  records: list[dict[str, Any]]
  num_broken: int


def read_lines(path: pathlib.Path) -> Lines:
  """Returns the lines of a file that `JsonLines` wrote; none where there is no file."""
  try:
    text = limits.read_bytes(path)
  except FileNotFoundError:
    return Lines([], 0)
  except (OSError, ValueError):  # a folder, a pipe
    return Lines([], 1)
  good, broken = [], 0
  for line in text.splitlines():
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      value = None
    if isinstance(value, dict) and all(is_number(value.get(name, 0)) for name in _COUNTS):
      good.append(value)
    else:
      broken += 1
  return Lines(good, broken)


def lines_until(path: pathlib.Path, window: int) -> int:
  """Returns the number of lines, in a file of `JsonLines`, about windows up to a number.

  Only lines before the first that is damaged or of a later window count.
  """
  count = 0
  for line in limits.read_bytes(path).splitlines(keepends=True) if path.exists() else ():
    try:
      is_known = line.endswith(b"\n") and json.loads(line)["window"] <= window
    except (ValueError, TypeError, LookupError, RecursionError):
      is_known = False
    if not is_known:
      break
    count += 1
  return count


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Returns the JSON object in a file; an empty one where there is none or it is damaged."""
  try:
    value = limits.read_json(path)
  except (OSError, ValueError):
    return {}
  return value if isinstance(value, dict) else {}


def is_number(value: Any) -> bool:
  """Returns True for JSON values that are numbers, NaN included, and can be averaged."""
  good = isinstance(value, int | float) and not isinstance(value, bool)
  return good and not abs(value) > _LARGEST


# --- film strips ----------------------------------------------------------------------------------


class Strip(NamedTuple):
  """The files of a film strip.

  Attributes:
    number: Of its last window.
    paths: Of its windows, in order; some may be missing.
  """

  number: int
  paths: list[pathlib.Path]


def strip_path(run_dir: pathlib.Path, strip: int, window: int) -> pathlib.Path:
  """Returns the file of a window of the strip that ends with window number `strip`."""
  return run_dir / STRIPS / f"{strip:08d}-{window:08d}.npz"


def strip_numbers(path: pathlib.Path) -> tuple[int, int] | None:
  """Returns the numbers of strip and window of a file; None for a file that is no strip's.

  Runs of earlier versions have one file per strip, named after its last window.

  >>> strip_numbers(pathlib.Path("00000050-00000049.npz"))
  (50, 49)
  >>> strip_numbers(pathlib.Path("00000050.npz"))
  (50, 50)
  """
  found = _STRIP_NAME.fullmatch(path.name)
  return found and (int(found[1]), int(found[2] or found[1]))


def find_strips(run_dir: pathlib.Path) -> list[Strip]:
  """Returns the strips in the folder of a run, in order."""
  files: dict[int, list[tuple[int, pathlib.Path]]] = {}
  folder = run_dir / STRIPS
  for path in folder.iterdir() if folder.is_dir() else ():
    if (numbers := strip_numbers(path)) and path.is_file():
      files.setdefault(numbers[0], []).append((numbers[1], path))
  return [Strip(n, [path for _, path in sorted(files[n])]) for n in sorted(files)]


def read_strip(paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
  """Returns the arrays of a strip, its windows put together.

  Raises:
    ValueError: A file is no archive of arrays, damaged, or too large.
  """
  windows = [_read_window(path) for path in paths]
  joined = windows[0]
  for window in windows[1:]:
    num = next((len(x) for name, x in window.items() if is_score_key(name)), 0)
    joined = {
      name: np.concatenate([joined[name], x if _is_scored(name) else x[len(x) - num :]])
      for name, x in window.items()
      if name in joined
    }
  return joined


def write_strip_window(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes the arrays of one window of a strip, complete or not at all."""
  path.parent.mkdir(exist_ok=True)
  with atomic.replacing(path) as part:
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]


def _is_scored(name: str) -> bool:
  """Returns True if an array of a strip holds predictions or their errors, not input."""
  return is_score_key(name) or is_score_key(name.rpartition("/")[0])


def _read_window(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    return read_npz(path)
  except (OSError, ValueError) as error:
    raise ValueError(f"{path.name} cannot be read: {error}") from error
