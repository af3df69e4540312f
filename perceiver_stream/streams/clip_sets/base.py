"""Shared by the data sets of clips: what a list says of a clip, and the rows of annotation files.

Annotation files are untrusted: their size is bounded, numbers are checked, and an error names the
file and the line.
"""

import csv
import io
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perceiver_stream.files import limits
from perceiver_stream.files.about import About as About

MAX_LIST_BYTES = 2**28  # AudioSet's largest list has 101 MB
MAX_JSON_BYTES = 2**31  # Ego4D's narrations have some 1 GB
MAX_SECONDS = 1e6
LABEL = "label"  # the usual name of the one label of a clip


class LabelledClip(NamedTuple):
  """A clip: a file or a part of it, with its labels.

  Attributes:
    path: Of the file.
    name: The name that the data set's list gives it.
    start_s: Where it starts in the file, in seconds.
    stop_s: Where it stops; infinity is the end of the file.
    labels: Numbers of its classes, from 0, by the name of the label; () where not published.
    caption: Text; "" where there is none.
  """

  path: str
  name: str
  start_s: float
  stop_s: float
  labels: Mapping[str, tuple[int, ...]]
  caption: str


class Listed(NamedTuple):
  """A clip as an annotation file lists it, with the files that it may be.

  Attributes:
    where: File and line, for messages.
    whole: Files of the video in which it lies, `folder/name` below the root; the first that is
      there. A suffix in a name does not count: any of a media file will do.
    trimmed: Files that hold this clip and nothing else; sought first.
    start_s: Where it starts in the video, in seconds.
    stop_s: Where it stops.
    labels: See `LabelledClip`.
    caption: Text.
  """

  where: str
  whole: Sequence[str] = ()
  trimmed: Sequence[str] = ()
  start_s: float = 0.0
  stop_s: float = math.inf
  labels: Mapping[str, tuple[int, ...]] = {}
  caption: str = ""


class ClipSet(NamedTuple):
  """A data set.

  Attributes:
    name: For `read_clips`.
    about: Message if it is missing.
    splits: Those that its authors published; nothing is drawn here.
    read: Returns the clips of a split, given the root and the split.
    classes: The number of classes by the name of the label.
    many: True if a clip has any number of classes; False: one.
    folds: The number of splits "train1", "test1", ... for cross-validation; 0 is none.
  """

  name: str
  about: About
  splits: tuple[str, ...]
  read: Callable[[pathlib.Path, str], Iterable[Listed]]
  classes: Mapping[str, int] = {}
  many: bool = False
  folds: int = 0


class Row(NamedTuple):
  """A row of an annotation file.

  Attributes:
    where: File and line.
    values: Texts by column.
  """

  where: str
  values: Mapping[str, Any]

  def text(self, name: str) -> str:
    """Returns a value that is not empty; ValueError if there is none."""
    value = self.values.get(name)
    if not isinstance(value, str) or not value.strip():
      raise ValueError(f"{self.where}: {name} is {value!r}, expected text; get the file again.")
    return value.strip()

  def identity(self, name: str) -> str:
    """Returns a text or a whole number as text; ValueError if there is none."""
    value = self.values.get(name)
    return str(value) if type(value) is int else self.text(name)

  def number(self, name: str) -> float:
    """Returns a number of seconds from 0 to `MAX_SECONDS`; ValueError if there is none."""
    value = self.values.get(name)
    return seconds(value, f"{self.where}: {name}")

  def whole(self, name: str, count: int) -> int:
    """Returns a whole number from 0 to `count` - 1; ValueError if there is none."""
    value = self.values.get(name)
    try:
      number = -1 if isinstance(value, bool) or not isinstance(value, int | str) else int(value)
    except ValueError:
      number = -1
    if not 0 <= number < count:
      raise ValueError(
        f"{self.where}: {name} is {_short(value)}, expected a whole number from 0 to {count - 1}."
      )
    return number


def seconds(value: Any, where: str) -> float:
  """Returns a time; ValueError unless it is a number from 0 to `MAX_SECONDS`."""
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if not 0 <= number <= MAX_SECONDS:
    raise ValueError(f"{where} is {_short(value)}, expected seconds from 0 to {MAX_SECONDS:.0f}.")
  return number


def span(start_s: float, stop_s: float, where: str) -> tuple[float, float]:
  """Returns a start and a stop; ValueError unless the stop is later."""
  if not start_s < stop_s:
    raise ValueError(f"{where}: it starts at {start_s} s and stops at {stop_s} s, expected later.")
  return start_s, stop_s


def clock_seconds(text: str, where: str) -> float:
  """Returns the seconds of `HH:MM:SS.ss`; ValueError if it is none."""
  parts = text.split(":")
  if len(parts) != 3:
    raise ValueError(f"{where} is {_short(text)}, expected HH:MM:SS.ss.")
  hours, minutes, rest = (seconds(part, where) for part in parts)
  return 3600 * hours + 60 * minutes + rest


def annotation(about: About, root: pathlib.Path, *names: str) -> pathlib.Path:
  """Returns the first of several files that is there.

  Raises:
    FileNotFoundError: None is; names the source and the layout.
    RefusedError: It is a link that leads out of the root.
  """
  about.need(root)
  found = next((root / name for name in names if (root / name).exists()), None)
  found = found or about.need(root / names[0])
  if not found.resolve().is_relative_to(root.resolve()):
    raise limits.RefusedError(f"{found} refused: it is a link that leads out of {root}.")
  return found


def read_lines(file: pathlib.Path) -> Iterator[Row]:
  """Yields the lines of a text file that are not empty, as the value "line"."""
  for number, line in enumerate(limits.read_text(file, MAX_LIST_BYTES).splitlines(), 1):
    if line.strip():
      yield Row(f"{file}, line {number}", {"line": line.strip()})


def read_rows(
  file: pathlib.Path,
  columns: Sequence[str] | None = None,
  *,
  delimiter: str = ",",
  comment: str = "",
) -> Iterator[Row]:
  """Yields the rows of a CSV file.

  Args:
    file: To read.
    columns: Their names; None: those of the first row.
    delimiter: Between columns.
    comment: Rows that start with it are left out; "" is none.

  Raises:
    ValueError: It is no CSV, or a row has more columns than names.
  """
  text = limits.read_text(file, MAX_LIST_BYTES).removeprefix("\ufeff")
  reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
  try:
    for values in reader:
      if not values or (comment and values[0].startswith(comment)):
        continue
      if columns is None:
        columns = [value.strip() for value in values]
        continue
      where = f"{file}, line {reader.line_num}"
      if len(values) > len(columns):
        raise ValueError(f"{where}: {len(values)} columns, expected {', '.join(columns)}.")
      yield Row(where, dict(zip(columns, values, strict=False)))
  except csv.Error as error:
    raise ValueError(f"{file}, line {reader.line_num}: {error}; get the file again.") from error


def read_json(file: pathlib.Path) -> Any:
  """Returns the contents of a JSON file of up to `MAX_JSON_BYTES`."""
  text = limits.read_text(file, MAX_JSON_BYTES)
  return limits.parse_json(text, str(file), most=2**17 + len(text) // 8)


def as_rows(entries: Any, where: str) -> Iterator[Row]:
  """Yields the objects of a list in a JSON file; ValueError if it is no such list."""
  if not isinstance(entries, list):
    raise ValueError(f"{where}: a {type(entries).__name__}, expected a list.")
  for number, entry in enumerate(entries):
    if not isinstance(entry, dict):
      raise ValueError(f"{where}, entry {number}: a {type(entry).__name__}, expected an object.")
    yield Row(f"{where}, entry {number}", entry)


def object_of(value: Any, where: str) -> dict[str, Any]:
  """Returns a value that is an object of JSON; ValueError if it is none."""
  if not isinstance(value, dict):
    raise ValueError(f"{where}: a {type(value).__name__}, expected an object.")
  return value


def numbered(names: Iterable[str], count: int, where: str) -> dict[str, int]:
  """Returns the number of each class: its place in alphabetical order.

  Raises:
    ValueError: There are more than `count`.
  """
  found = sorted(set(names))
  if len(found) > count:
    raise ValueError(f"{where}: {len(found)} classes, expected at most {count}.")
  return {name: number for number, name in enumerate(found)}


def number_of(row: Row, name: str, known: Mapping[str, int]) -> int:
  """Returns the number of the class in a column; ValueError if it is not known."""
  text = row.text(name)
  if text not in known:
    raise ValueError(
      f"{row.where}: {name} is {_short(text)}, which is none of the {len(known)} known."
    )
  return known[text]


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."
