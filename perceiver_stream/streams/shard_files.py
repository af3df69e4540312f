"""The format of a folder of shards: one tick per record, and an index of the files.

  index.json                 specs, rates, the config it was made from, and, when done, all parts
  part-00000.json            the finished shards of one part, with where the next one starts
  part-00000-00000.ticks     an ArrayRecord file

A part is one row of the stream it was made from; its shards follow each other. Everything is
written under a temporary name and then renamed, so a file with its final name is complete.
"""

import dataclasses
import json
import math
import pathlib
import re
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from perceiver_stream.files import codec, limits
from perceiver_stream.files.checking import check_value
from perceiver_stream.streams.base import TIMESTAMP
from perceiver_stream.types import IS_FIRST, ModalitySpec, NonNegative, Range, valid_key
from perceiver_stream.utils import atomic

INDEX, FORMAT = "index.json", 1
_DTYPE = re.compile(r"bool|float(16|32|64)|u?int(8|16|32|64)")
_MAX_ELEMENTS = 2**28  # of an array in a tick
HINT = "run perceiver-stream shards with the same arguments again, which makes what is not whole"


class ShardError(ValueError):
  """A folder of shards is incomplete; the message names the file and the remedy."""


@dataclass
class Shard:
  """One file.

  Attributes:
    file: Its name in the folder.
    ticks: Number of ticks in it.
    num_bytes: Its size.
    firsts: The ticks in it where a recording starts.
    state: Of the stream that was read, after its last tick.
  """

  file: str
  ticks: int
  num_bytes: int
  firsts: tuple[int, ...]
  state: dict[str, Any]

  def check(self) -> None:
    """Checks fields that come out of a file; raises ValueError."""
    check_value(self.file, str, "file")
    limits.inside(pathlib.Path(), self.file)
    for name in ("ticks", "num_bytes"):
      check_value(getattr(self, name), Annotated[int, Range(1, 2**48)], f"{self.file}: {name}")
    edges = (-1, *self.firsts, self.ticks)
    if not all(type(n) is int for n in edges) or sorted(set(edges)) != list(edges):
      raise ValueError(f"{self.file}: firsts are no places, one after the other, of {self.ticks}.")
    if not isinstance(self.state, dict):
      raise ValueError(f"{self.file}: state is a {type(self.state).__name__}, expected an object.")

  def is_whole(self, folder: pathlib.Path) -> bool:
    """Returns True if the file exists with the size it was written with."""
    path = folder / self.file
    return path.is_file() and path.stat().st_size == self.num_bytes


@dataclass
class Part:
  """The shards of one row of the stream they were made from."""

  shards: list[Shard] = field(default_factory=list)
  finished: bool = False

  @classmethod
  def read(cls, path: pathlib.Path) -> "Part":
    """Returns the part in a file; an empty one where there is none, or none that can be read."""
    try:
      return cls.from_dict(limits.read_json(path))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
      return cls()

  @classmethod
  def from_dict(cls, stored: dict[str, Any]) -> "Part":
    """Returns the object from the output of `dataclasses.asdict`.

    Raises:
      TypeError, KeyError, ValueError: It is something else, or numbers are out of range.
    """
    shards = [Shard(**s | {"firsts": tuple(s["firsts"])}) for s in stored["shards"]]
    for shard in shards:
      shard.check()
    return cls(shards, bool(stored["finished"]))


@dataclass
class Index:
  """The contents of a folder of shards.

  Attributes:
    specs: Of a tick's modalities, by name.
    rate_hz: Ticks per second.
    source: Its origin: the stream's config and how it was divided.
    shards: All shards in order; empty while it is being made.
  """

  specs: dict[str, ModalitySpec]
  rate_hz: float
  source: dict[str, Any]
  shards: list[Shard] = field(default_factory=list)

  def write(self, folder: pathlib.Path) -> None:
    """Writes `index.json`."""
    write_json(folder / INDEX, {"format": FORMAT} | dataclasses.asdict(self))

  @classmethod
  def read(cls, folder: pathlib.Path) -> "Index":
    """Returns the index of a folder.

    Raises:
      FileNotFoundError: There is none.
      ShardError: It is no index, or of another version.
    """
    path = folder / INDEX
    if not path.is_file():
      raise FileNotFoundError(
        f"shards: there is no {path}; make shards with perceiver-stream shards, or check the path."
      )
    try:
      stored = limits.read_json(path)
      if stored["format"] != FORMAT:
        raise ShardError(f"{path} has format {stored['format']}, expected {FORMAT}; make it anew.")
      specs = {
        name: ModalitySpec(**spec | {"shape": tuple(spec["shape"])})
        for name, spec in stored["specs"].items()
      }
      for name, spec in specs.items():
        _check_spec(spec, name)
      check_value(stored["rate_hz"], NonNegative, "rate_hz")
      if not isinstance(stored["source"], dict):
        raise ValueError("source is no object")
      shards = Part.from_dict({"shards": stored["shards"], "finished": True}).shards
      return cls(specs, stored["rate_hz"], stored["source"], shards)
    except ShardError:
      raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
      raise ShardError(f"{path} is no index of shards ({error!r}); {HINT}.") from error


class Layout:
  """The layout of a tick in a record: arrays in order of name, then flags.

  Images hold differences to the pixel on the left, which compress to two thirds of themselves.
  """

  def __init__(self, specs: dict[str, ModalitySpec]):
    self._parts = [(n, s.shape, np.dtype(s.dtype)) for n, s in sorted(specs.items())]
    self._names = [name for name, _, _ in self._parts]
    self.num_bytes = len(self._names) + 1
    self.num_bytes += sum(math.prod(shape) * d.itemsize for _, shape, d in self._parts)

  def encode(self, tick: dict[str, Any]) -> bytes:
    """Returns the record of a tick.

    Raises:
      ValueError: An array differs from the specs.
    """
    pieces = []
    for name, shape, dtype in self._parts:
      array = tick[name]
      if array.shape != shape or array.dtype != dtype:
        raise ValueError(
          f"shards: a tick's {name!r} is {array.dtype} {array.shape}, expected {dtype} {shape}, as "
          f"specs(config) says; correct the stream."
        )
      if _is_picture(array):
        array = np.concatenate([array[:, :1], array[:, 1:] - array[:, :-1]], axis=1)
      pieces.append(np.ascontiguousarray(array, dtype).tobytes())
    flags = [bool(tick[valid_key(name)]) for name in self._names] + [bool(tick[IS_FIRST])]
    return b"".join([*pieces, bytes(flags)])

  def decode(self, record: bytes) -> tuple[dict[str, tuple[np.ndarray, bool]], bool]:
    """Returns arrays and validity by name, and whether a recording starts."""
    *valid, is_first = record[-len(self._names) - 1 :]
    values, start = {}, 0
    for (name, shape, dtype), is_valid in zip(self._parts, valid, strict=True):
      count = int(np.prod(shape))
      array = np.frombuffer(record, dtype, count, start).reshape(shape)
      start += count * dtype.itemsize
      if _is_picture(array):
        array = np.add.accumulate(array, axis=1, dtype=np.uint8)
      values[name] = (array, bool(is_valid))
    return values, bool(is_first)


def _check_spec(spec: ModalitySpec, name: str) -> None:
  """Checks a modality's spec that comes out of a file; raises ValueError."""
  codec.check(spec, name)
  if not _DTYPE.fullmatch(spec.dtype) or math.prod(spec.shape) > _MAX_ELEMENTS:
    raise ValueError(f"{name} is {spec.dtype} {spec.shape}, which no tick can hold")


def check_stored(tick: dict[str, Any], specs: dict[str, ModalitySpec]) -> None:
  """Raises ValueError where a tick has names that shards do not keep."""
  extra = set(tick) - set(specs) - {valid_key(name) for name in specs} - {IS_FIRST, TIMESTAMP}
  if extra:
    raise ValueError(f"shards: specs(config) does not have {sorted(extra)}, which would be lost.")


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a file that appears only when complete."""
  atomic.write_text(path, json.dumps(value))


def _is_picture(array: np.ndarray) -> bool:
  return array.dtype == np.uint8 and array.ndim == 3
