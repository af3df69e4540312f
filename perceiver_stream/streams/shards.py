"""Folders of shards, as `perceiver-stream shards` writes them: any stream, read back exactly.

Shards are ArrayRecord files, read through Grain. Any tick is found at once, so resuming from a
state costs the same everywhere. Every record is checked as it is read, and sizes and counts before:
a shard that is cut off or changed is an error, never fewer or other ticks.
"""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grain

from perceiver_stream.files.record_files import check_chunks
from perceiver_stream.streams.base import StreamConfig, check_state, exact_rate, is_over, make_tick
from perceiver_stream.streams.shard_files import HINT, Index, Layout, Shard, ShardError
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream out of shards.

  Attributes:
    path: Folder with `index.json`.
    rate_hz: 0, or the stored rate.
    audio_rate_hz: 0: as stored, likewise.
    loops: Passes over all; -1 is endless.
  """

  path: str = ""
  rate_hz: float = 0.0
  audio_rate_hz: int = 0
  loops: int = 1

  def validate(self) -> None:
    """Checks the fields, but not that the folder is there; raises ValueError."""
    if self.rate_hz:
      super().validate()
    elif self.audio_rate_hz < 0 or self.max_ticks < 0:
      raise ValueError(
        f"shards: audio_rate_hz={self.audio_rate_hz} and max_ticks={self.max_ticks}; use 0 or more."
      )
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"shards: loops={self.loops}; use at least 1, or -1 for endless.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick, from the folder's index."""
  return _index(config).specs


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: recordings that follow each other, about 1 / num_rows of all.

  Raises:
    FileNotFoundError: The folder has no index.
    ShardError: A shard is missing or cut off.
    ValueError: There are fewer recordings than rows, or the rates are others.
  """
  index, folder = _index(config), user_path(config.path)
  if not index.shards:
    raise ShardError(f"shards: {folder} is not finished; {HINT}.")
  for shard in index.shards:
    if not shard.is_whole(folder):
      raise ShardError(
        f"shards: {folder / shard.file} is missing or does not have its {shard.num_bytes} bytes; "
        f"{HINT}."
      )
  return ShardStream(config, index, share(index.shards, row, num_rows))


def share(shards: Sequence[Shard], row: int, num_rows: int) -> range:
  """Returns the ticks of one row; rows begin where recordings do, and are about equally long.

  Raises:
    ValueError: There are fewer recordings than rows.
  """
  starts = [0, *itertools.accumulate(shard.ticks for shard in shards)]
  firsts = [start + first for start, s in zip(starts, shards, strict=False) for first in s.firsts]
  if len(firsts) < num_rows:
    raise ValueError(
      f"shards: {num_rows} rows need at least as many recordings, but there are {len(firsts)}; use "
      f"fewer rows, or make the shards from more rows or files."
    )
  cuts = [0]
  for r in range(1, num_rows):
    wanted = starts[-1] * r / num_rows
    valid = firsts[cuts[-1] + 1 : len(firsts) - num_rows + r + 1]
    cuts.append(firsts.index(min(valid, key=lambda first: abs(first - wanted))))
  edges = [*(firsts[cut] for cut in cuts), starts[-1]]
  return range(edges[row], edges[row + 1])


class ShardStream(grain.IterDataset):
  """Some ticks of a folder, in order."""

  def __init__(self, config: Config, index: Index, ticks: range):
    super().__init__()
    self.config, self.index, self.ticks = config, index, ticks

  def __iter__(self) -> "ShardIterator":
    return ShardIterator(self.config, self.index, self.ticks)


class ShardIterator(grain.DatasetIterator):
  """Holds one shard open."""

  def __init__(self, config: Config, index: Index, ticks: range):
    super().__init__()
    self._config, self._shards, self._ticks = config, index.shards, ticks
    self._rate, self._layout = exact_rate(index.rate_hz), Layout(index.specs)
    self._starts = [0, *itertools.accumulate(shard.ticks for shard in index.shards)]
    self._open: tuple[int, Any] | None = None
    self._state = {"loop": 0, "tick": 0, "count": 0, "ticks": len(ticks)}

  def __next__(self) -> dict[str, Any]:
    self._assert_not_closed()
    state, config = self._state, self._config
    if state["tick"] == len(self._ticks):
      state |= {"loop": state["loop"] + 1, "tick": 0}
    if is_over(state, config):
      self._drop()
      raise StopIteration
    values, is_first = self._layout.decode(self._read(self._ticks[state["tick"]]))
    tick = make_tick(values, is_first, state["count"] / self._rate)
    state |= {"tick": state["tick"] + 1, "count": state["count"] + 1}
    return tick

  def _read(self, tick: int) -> bytes:
    number = bisect.bisect_right(self._starts, tick) - 1
    shard, inside = self._shards[number], tick - self._starts[number]
    path = user_path(self._config.path) / shard.file
    try:
      if self._open is None or self._open[0] != number:
        self._drop()
        check_chunks(path, self._layout.num_bytes)
        self._open = (number, grain.sources.ArrayRecordDataSource(str(path)))
      source = self._open[1]
      if len(source) != shard.ticks:
        raise ShardError(f"{path} has {len(source)} ticks, expected {shard.ticks}; {HINT}.")
      record = source[inside]
    except ShardError:
      raise
    except (RuntimeError, ValueError) as error:
      raise ShardError(f"{path} is damaged at tick {inside} ({error}); {HINT}.") from error
    if len(record) != self._layout.num_bytes:
      raise ShardError(
        f"{path}: tick {inside} has {len(record)} bytes, expected {self._layout.num_bytes}; {HINT}."
      )
    return record

  def _drop(self) -> None:
    if self._open is not None:
      self._open[1].__exit__(None, None, None)
      self._open = None

  def get_state(self) -> dict[str, int]:
    """Returns the pass, the next tick of it, the ticks so far, and those of a pass."""
    return dict(self._state)

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes to a tick, at once.

    Raises:
      ValueError: The state is of another stream, or of other shards.
    """
    check_state("shard stream", state, self._state)
    if state["ticks"] != len(self._ticks) or not 0 <= state["tick"] <= len(self._ticks):
      raise ValueError(
        f"shard stream: the state to restore is at tick {state['tick']} of {state['ticks']}, but the "
        f"row has {len(self._ticks)} ticks; restore with the same shards and rows."
      )
    self._state = {name: int(value) for name, value in state.items()}

  def close(self) -> None:
    """Closes the shard."""
    super().close()
    self._drop()


def _index(config: Config) -> Index:
  if not config.path:
    raise ValueError("shards: path is empty; name a folder that perceiver-stream shards wrote.")
  index = Index.read(user_path(config.path))
  stored = {"rate_hz": index.rate_hz}
  if "audio" in index.specs:
    stored["audio_rate_hz"] = index.specs["audio"].rate_hz
  for name, value in stored.items():
    wanted = getattr(config, name)
    if wanted and abs(wanted - value) > 0.005:
      raise ValueError(
        f"shards: {name}={wanted}, but {config.path} has {value}; leave it 0, or make new shards."
      )
  return index
