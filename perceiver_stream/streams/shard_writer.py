"""Writes any stream to a folder of shards, in several processes; resumes a stopped one."""

import dataclasses
import json
import logging
import multiprocessing
import pathlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from perceiver_stream import streams
from perceiver_stream.streams import clip_sets, shard_files, video
from perceiver_stream.streams.base import StreamConfig, exact_rate
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.playlist import find_recordings
from perceiver_stream.streams.shard_files import (
  Index,
  Layout,
  Part,
  Shard,
  ShardError,
  check_stored,
)
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils import atomic
from perceiver_stream.utils.addresses import hidden_in
from perceiver_stream.utils.paths import user_path

logger = logging.getLogger(__name__)

OPTIONS = (
  "group_size:1,zstd:1"  # one record at a time can be read; zstd:3 is 5 % smaller, 3x slower
)


@dataclass(frozen=True)
class Task:
  """One part: its source and its destination.

  Attributes:
    config: Of the stream.
    row: Of the stream, which is the part's number.
    num_rows: Of the stream.
    folder: To write to.
    shard_ticks: Ticks in a shard.
  """

  config: StreamConfig
  row: int
  num_rows: int
  folder: str
  shard_ticks: int


def write(
  config: StreamConfig,
  folder: str,
  *,
  num_parts: int = 0,
  shard_ticks: int = 4096,
  processes: int = 1,
) -> Index:
  """Writes a stream to a folder; finished shards of the same stream are kept.

  The output does not depend on the number of processes or interruptions.

  Args:
    config: Of the stream; it must have an end.
    folder: To write to.
    num_parts: Rows that the stream is opened with, each written by itself; 0: one for each file,
      and 1 for streams without files.
    shard_ticks: Ticks in a shard.
    processes: At work at once, each on a part.

  Returns:
    A summary of the output.

  Raises:
    ValueError: The stream has no end, or the folder has shards of another one.
    ShardError: Parts could not be written; the others are.
  """
  place = user_path(folder)
  num_parts = num_parts or natural_parts(config)
  index = _begin(config, place, num_parts, shard_ticks)
  tasks = [Task(config, row, num_parts, folder, shard_ticks) for row in range(num_parts)]
  if processes == 1:
    errors = [write_part(task) for task in tasks]
  else:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, num_parts), mp_context=context) as pool:
      errors = list(pool.map(write_part, tasks))
  wrong = [f"part {row}: {error}" for row, error in enumerate(errors) if error]
  if wrong:
    raise ShardError("shards: not all could be written; the rest is. " + "\n".join(wrong))
  for row in range(num_parts):
    index.shards += Part.read(_part_path(place, row)).shards
  if not index.shards:
    raise ShardError(f"shards: the stream has not one tick, so there is nothing in {folder}.")
  index.write(place)
  return index


def natural_parts(config: StreamConfig) -> int:
  """Returns the number of parts that keep the order of the stream: one for each recording."""
  if not isinstance(config, video.Config) or clip_sets.split_address(config.path):
    return 1
  return len(find_recordings(config.path, config.image_sequences))


def _begin(config: StreamConfig, folder: pathlib.Path, num_parts: int, shard_ticks: int) -> Index:
  """Returns the index without shards, and leaves it in the folder."""
  if num_parts < 1 or shard_ticks < 1:
    raise ValueError(f"shards: num_parts={num_parts}, shard_ticks={shard_ticks}; use at least 1.")
  if not config.max_ticks and getattr(config, "loops", -1) == -1:
    raise ValueError("shards: the stream has no end; set its max_ticks, which is per part.")
  fields = {"kind": type(config).__module__} | dataclasses.asdict(config)
  source = {"stream": fields, "num_parts": num_parts, "shard_ticks": shard_ticks}
  source = hidden_in(json.loads(json.dumps(source)))
  specs = streams.specs(config)
  index = Index(specs, float(exact_rate(config.rate_hz)), source)
  if (folder / shard_files.INDEX).is_file():
    before = hidden_in(Index.read(folder).source)
    if before != source:
      raise ValueError(
        f"shards: {folder} has shards of another stream (before: {before}; now: {source}); use "
        f"another folder, or remove it."
      )
  folder.mkdir(parents=True, exist_ok=True)
  index.write(folder)
  return index


def write_part(task: Task) -> str:
  """Writes one part, from where it was interrupted; returns an error message, or nothing."""
  path = _part_path(user_path(task.folder), task.row)
  try:
    part = _whole(Part.read(path), path.parent)
    if part.finished:
      return ""
    stream = iter(streams.open_rows(task.config, task.num_rows, only=(task.row,))[0])
    if part.shards:
      stream.set_state(part.shards[-1].state)
    specs = streams.specs(task.config)
    while not part.finished:
      shard, part.finished = _write_shard(stream, specs, task, len(part.shards))
      part.shards += [shard] if shard.ticks else []
      shard_files.write_json(path, dataclasses.asdict(part))
    stream.close()
  except (ValueError, OSError, RuntimeError, ImportError) as error:
    return f"{error}"
  return ""


def _whole(part: Part, folder: pathlib.Path) -> Part:
  """Returns the shards before the first incomplete one."""
  for number, shard in enumerate(part.shards):
    if not shard.is_whole(folder):
      logger.warning("shards: %s is not whole; making it again.", folder / shard.file)
      return Part(part.shards[:number])
  return part


def _write_shard(stream: Any, specs: Any, task: Task, number: int) -> tuple[Shard, bool]:
  """Returns the shard that was written, and whether the stream was over."""
  layout = Layout(specs)
  path = user_path(task.folder) / f"part-{task.row:05d}-{number:05d}.ticks"
  tick, firsts, ticks = _next(stream, task.config), [], 0
  if tick is None:
    return Shard(path.name, 0, 0, (), {}), True
  with atomic.replacing(path) as part:
    writer = ArrayRecordWriter(str(part), OPTIONS)
    while tick is not None:
      check_stored(tick, specs)
      writer.write(layout.encode(tick))
      firsts += [ticks] if tick[IS_FIRST] else []
      ticks += 1
      tick = _next(stream, task.config) if ticks < task.shard_ticks else None
    writer.close()
    reader = ArrayRecordReader(str(part))
    if reader.num_records() != ticks:
      raise ShardError(f"{part} has {reader.num_records()} ticks of {ticks}; is the disk full?")
    reader.close()
  finished, state = ticks < task.shard_ticks, stream.get_state()
  return Shard(path.name, ticks, path.stat().st_size, tuple(firsts), state), finished


def _next(stream: Any, config: StreamConfig) -> dict[str, np.ndarray] | None:
  """Returns the next tick, or None at the end; a file given up is one."""
  try:
    return next(stream, None)
  except DamagedError as error:
    if getattr(config, "on_damage", "stop") == "stop":
      raise
    logger.warning("%s", error)
    return None


def _part_path(folder: pathlib.Path, row: int) -> pathlib.Path:
  return folder / f"part-{row:05d}.json"
