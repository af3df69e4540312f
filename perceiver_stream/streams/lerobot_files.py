"""Files of LeRobot data sets: what they hold, their episodes, and the numbers of an episode.

v3.0  data/chunk-000/file-000.parquet and videos/KEY/chunk-000/file-000.mp4 of many episodes each,
      meta/episodes/*/*.parquet
v2.x  a file for each episode, meta/episodes.jsonl

Source: the files that lerobot writes; paths are templates in meta/info.json.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.streams.base import exact_rate
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.optional import require
from perceiver_stream.utils.paths import user_path

INFO = "meta/info.json"
_FIELD = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
_LARGEST = 2**16  # numbers in one value of a feature
_VERSIONS = ("v2.0", "v2.1", "v3.0")


class Info(NamedTuple):
  """The description of a data set.

  Attributes:
    folder: Of the data set.
    fps: Frames per second of all episodes.
    videos: Names of the cameras that are stored as videos.
    vectors: Numbers in a value, by name of the feature.
    is_v3: Whether a file has several episodes.
    data_path: Template of the names of parquet files.
    video_path: Template of the names of videos.
    chunk: Episodes in a folder, before v3.0.
  """

  folder: pathlib.Path
  fps: Fraction
  videos: tuple[str, ...]
  vectors: Mapping[str, int]
  is_v3: bool
  data_path: str
  video_path: str
  chunk: int


class Episode(NamedTuple):
  """One episode.

  Attributes:
    number: Of the episode.
    length: Frames.
    places: Values of path templates, by name, for "data" and for each camera.
    starts: Seconds into its video at which the episode begins, by camera.
  """

  number: int
  length: int
  places: Mapping[str, Mapping[str, Any]]
  starts: Mapping[str, float]


def is_lerobot(path: str) -> bool:
  """Returns True if a path is the folder of a data set."""
  return (user_path(path) / INFO).is_file()


def read_info(path: str) -> Info:
  """Returns the description of a data set.

  Raises:
    FileNotFoundError: There is no data set.
    DamagedError: Its description cannot be used.
  """
  folder = user_path(path)
  if not (folder / INFO).is_file():
    raise FileNotFoundError(f"lerobot: {folder} is no data set: it has no {INFO}.")
  try:
    info = limits.read_json(folder / INFO)
    version, fps = info["codebase_version"], float(info["fps"])
    if version not in _VERSIONS:
      raise ValueError(f"its codebase_version is {version!r}, expected one of {_VERSIONS}")
    features = {str(name): _feature(name, f) for name, f in info["features"].items()}
    return Info(
      folder,
      exact_rate(fps),
      tuple(name for name, size in features.items() if size == 0),
      {name: size for name, size in features.items() if size > 0},
      version == "v3.0",
      str(info["data_path"]),
      str(info.get("video_path") or ""),
      max(1, int(info.get("chunks_size", 1000))),
    )
  except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
    raise DamagedError(f"lerobot: {folder / INFO} cannot be used: {error!r}.") from error


def _feature(name: str, feature: Mapping[str, Any]) -> int:
  """Returns the numbers in a value of a feature; 0 for a video, -1 for what is not read."""
  dtype, shape = str(feature["dtype"]), [int(n) for n in feature["shape"]]
  if dtype == "video":
    return 0
  if not re.fullmatch(r"float\d+|u?int\d+|bool", dtype):
    return -1
  size = int(np.prod(shape, dtype=object)) if shape else 1
  if not 0 < size <= _LARGEST:
    raise ValueError(f"feature {name!r} has the shape {shape}")
  return size


def read_episodes(info: Info) -> list[Episode]:
  """Returns the episodes of a data set, in order.

  Raises:
    DamagedError: The list of episodes is missing or damaged.
    ImportError: pyarrow is not installed.
  """
  found = _episodes_v3(info) if info.is_v3 else _episodes_v2(info)
  if not found:
    raise DamagedError(f"lerobot: {info.folder} has no episode.")
  for episode in found:
    if not 0 < episode.length <= limits.MAX_MESSAGES:
      raise DamagedError(
        f"lerobot: episode {episode.number} of {info.folder} has {episode.length} frames."
      )
  return sorted(found, key=lambda episode: episode.number)


def _episodes_v2(info: Info) -> list[Episode]:
  path, found = info.folder / "meta/episodes.jsonl", []
  try:
    for line in limits.read_text(path).splitlines():
      entry = limits.parse_json(line, str(path))
      number, length = int(entry["episode_index"]), int(entry["length"])
      place = {"episode_index": number, "episode_chunk": number // info.chunk}
      places = {"data": place} | {key: place | {"video_key": key} for key in info.videos}
      found.append(Episode(number, length, places, dict.fromkeys(info.videos, 0.0)))
  except (OSError, KeyError, TypeError, ValueError) as error:
    raise DamagedError(f"lerobot: {path} cannot be used: {error!r}.") from error
  return found


def _episodes_v3(info: Info) -> list[Episode]:
  names = ["episode_index", "length", "data/chunk_index", "data/file_index"]
  for key in info.videos:
    names += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
  found = []
  for path in sorted((info.folder / "meta/episodes").glob("*/*.parquet")):
    table = read_table(path, names)
    columns = [table.column(name).to_pylist() for name in names]
    try:
      for values in zip(*columns, strict=True):
        found.append(_episode(info, dict(zip(names, values, strict=True))))
    except (TypeError, ValueError, OverflowError) as error:
      raise DamagedError(f"lerobot: {path} has an episode that is none: {error}.") from error
  return found


def _episode(info: Info, row: Mapping[str, Any]) -> Episode:
  def place(of: str) -> dict[str, int]:
    return {name: int(row[f"{of}/{name}"]) for name in ("chunk_index", "file_index")}

  places = {"data": place("data")}
  for key in info.videos:
    places[key] = place(f"videos/{key}") | {"video_key": key}  # type: ignore[dict-item]
  starts = {key: float(row[f"videos/{key}/from_timestamp"]) for key in info.videos}
  if not all(0 <= start < limits.MAX_SECONDS for start in starts.values()):
    raise ValueError(f"it starts at {starts} s")
  return Episode(int(row["episode_index"]), int(row["length"]), places, starts)


def path_of(info: Info, template: str, values: Mapping[str, Any]) -> pathlib.Path:
  """Returns the file that a template names.

  Raises:
    DamagedError: The template has a name that it should not have, or leads out of the folder.
  """

  def filled(match: re.Match[str]) -> str:
    if match[1] not in values:
      raise DamagedError(f"lerobot: the path {template!r} of {info.folder} has {match[0]!r}.")
    return str(values[match[1]]).zfill(int(match[2] or 0))

  try:
    return limits.inside(info.folder, _FIELD.sub(filled, template))
  except limits.RefusedError as error:
    raise DamagedError(f"lerobot: {error}") from error


def read_vectors(info: Info, episode: Episode, names: Sequence[str]) -> dict[str, np.ndarray]:
  """Returns float32 `[length, size]` of each feature of an episode.

  Raises:
    DamagedError: The file is missing or damaged, or has another number of frames.
  """
  path = path_of(info, info.data_path, episode.places["data"])
  table = read_table(path, ["episode_index", *names])
  rows = np.flatnonzero(_numbers(table, "episode_index", 1, path)[:, 0] == episode.number)
  if len(rows) != episode.length:
    raise DamagedError(
      f"lerobot: {path} has {len(rows)} frames of episode {episode.number}, which should have "
      f"{episode.length}."
    )
  return {
    name: _numbers(table, name, info.vectors[name], path)[rows].astype(np.float32) for name in names
  }


def read_table(path: pathlib.Path, names: Sequence[str]) -> Any:
  """Returns columns of a parquet file as a table of pyarrow.

  Raises:
    DamagedError: It cannot be read, or lacks a column.
    RefusedError: It states more than the limits.
  """
  pyarrow, parquet = require("pyarrow", "records"), require("pyarrow.parquet", "records")
  if not path.is_file():
    raise DamagedError(f"lerobot: there is no file {path}.")
  try:
    with parquet.ParquetFile(
      path, thrift_string_size_limit=limits.MAX_TEXT_BYTES, thrift_container_size_limit=10**6
    ) as file:
      has = set(file.schema_arrow.names)
      if missing := [name for name in names if name not in has]:
        raise DamagedError(f"lerobot: {path} has no column {missing}; it has {sorted(has)[:50]}.")
      _check_size(path, file.metadata, set(names))
      return file.read(columns=[*names], use_threads=False)
  except (pyarrow.ArrowException, OSError, MemoryError) as error:
    raise DamagedError(f"lerobot: {path} cannot be read: {error}.") from error


def _check_size(path: pathlib.Path, metadata: Any, names: set[str]) -> None:
  most = max(limits.MAX_CHUNK_BYTES, limits.max_unpacked_bytes(path.stat().st_size))
  num_bytes = sum(_sizes(metadata, names))
  if metadata.num_rows > limits.MAX_MESSAGES or num_bytes > most:
    raise limits.RefusedError(
      f"{path} refused: it states {metadata.num_rows} rows and {num_bytes} bytes in the columns read; "
      f"the most is {limits.MAX_MESSAGES} and {most}."
    )


def _sizes(metadata: Any, names: set[str]) -> Iterator[int]:
  for number in range(metadata.num_row_groups):
    group = metadata.row_group(number)
    for at in range(group.num_columns):
      column = group.column(at)
      # Names may have dots; a list's column has ".list.element" behind its name.
      if any(
        column.path_in_schema == n or column.path_in_schema.startswith(f"{n}.") for n in names
      ):
        yield column.total_uncompressed_size


def _numbers(table: Any, name: str, size: int, path: pathlib.Path) -> np.ndarray:
  """Returns a column `[rows, size]` of numbers or lists of them."""
  pyarrow = require("pyarrow", "records")
  column = table.column(name)
  try:
    while "list" in str(column.type):
      column = pyarrow.chunked_array(
        [chunk.flatten() for chunk in column.chunks], column.type.value_type
      )
    values = column.to_numpy()
    if values.dtype.kind not in "biuf" or values.size != size * table.num_rows:
      raise ValueError(f"{values.size} values of {values.dtype} in {table.num_rows} rows of {size}")
    return values.reshape(-1, size)
  except (pyarrow.ArrowException, ValueError, AttributeError) as error:
    raise DamagedError(
      f"lerobot: the column {name!r} of {path} cannot be used: {error}."
    ) from error
