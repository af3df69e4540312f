"""Recordings of robots: MCAP files and ROS 2 bags, without ROS.

Tick i comes at the time i / rate_hz after the first image. Every topic has its own rate: a tick has
its newest message that was recorded by then, valid if not older than `max_age_s`. Images become
`pixels` and `depth`, IMU data and joint states vectors. Messages are found by an index that is made
when a recording is opened, so resuming costs the same everywhere.

MCAP chunks packed with zstd or lz4 need the extra `records`.
"""

import glob
import pathlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams import mcap_file, rosbag_file
from perceiver_stream.streams.bag_index import BagFile, Topic, check_span
from perceiver_stream.streams.bag_sensors import PIXELS, Source, choose, make_sensor
from perceiver_stream.streams.base import (
  CROPS,
  StreamConfig,
  audio_spec,
  exact_rate,
)
from perceiver_stream.streams.damage import ON_DAMAGE, DamagedError, Ledger
from perceiver_stream.streams.frame_numbers import natural_key
from perceiver_stream.streams.playlist import VIDEO_SUFFIXES
from perceiver_stream.streams.recorded import Newest, RecordedStream, from_video, no_sound
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path, why_no_file

SUFFIXES = (".mcap", ".db3")
METADATA = "metadata.yaml"  # in the folder of a ROS 2 bag
ROS1_SUFFIX, _ROS1_MAGIC = ".bag", b"#ROSBAG V"


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of recordings.

  Attributes:
    path: An .mcap or .db3 file; the folder of a ROS 2 bag, whose files are one recording; a folder
      of several; a pattern; or several of these between commas.
    topics: `"NAME=TOPIC"` each, as `"pixels=/camera/image"`: the modality and its topic. A name
      alone, one of `pixels`, `depth`, `imu`, `joints`, is the first topic of its kind. Empty: all
      of these that there are.
    audio_rate_hz: Recordings have no sound that is read; 0 leaves it out, otherwise it is not valid.
    height: Rows of images and depth.
    width: Columns.
    crop: `"centre"` keeps the aspect ratio and cuts the longer side; `"squash"` keeps all.
    max_age_s: Older than this, a message is not valid.
    loops: Passes over the recordings; -1 is endless.
    on_damage: `"stop"` with an error, or `"skip"`: continue after it and warn.
  """

  path: str = ""
  topics: tuple[str, ...] = ()
  audio_rate_hz: int = 0
  height: int = 64
  width: int = 64
  crop: str = "centre"
  max_age_s: float = 0.5
  loops: int = 1
  on_damage: str = "stop"

  def validate(self) -> None:
    """Checks the fields, but not that the files are there; raises ValueError."""
    super().validate()
    for name in ("height", "width"):
      if getattr(self, name) < 1:
        raise ValueError(f"bags: {name}={getattr(self, name)} pixels; use at least 1.")
    for name, valid in (("crop", CROPS), ("on_damage", ON_DAMAGE)):
      if getattr(self, name) not in valid:
        raise ValueError(f"bags: {name}={getattr(self, name)!r}; use one of {valid}.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"bags: loops={self.loops}; use at least 1, or -1 for endless.")
    if not self.max_age_s > 0:
      raise ValueError(f"bags: max_age_s={self.max_age_s}; use a positive number of seconds.")
    names = [entry.partition("=")[0] for entry in self.topics]
    if not all(names) or len(set(names)) < len(names) or "audio" in names:
      raise ValueError(f"bags: topics={self.topics}; use a name of its own for each, NAME=TOPIC.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick, from the first recording."""
  bag = Bag(find_bags(config.path)[0], config)
  try:
    known = {name: sensor.spec for name, sensor in bag.sensors.items()}
  finally:
    bag.close()
  return known | ({"audio": audio_spec(config)} if config.audio_rate_hz else {})


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the recordings row, row + num_rows, ...

  All recordings have the topics that are chosen in the first.

  Raises:
    FileNotFoundError: A file is not there.
    ValueError: There are fewer recordings than rows, or a topic is not there.
  """
  found = find_bags(config.path)
  if len(found) < num_rows:
    raise ValueError(
      f"bags: {num_rows} rows need at least as many recordings, but path={config.path!r} has "
      f"{len(found)}; use fewer rows or more recordings."
    )
  first = Bag(found[0], config)
  first.close()
  config = replace(config, topics=tuple(f"{name}={topic}" for name, topic in first.chosen.items()))
  return RecordedStream(config, found[row::num_rows], Bag)


def is_bag(path: str) -> bool:
  """Returns True for the suffix of a recording, and a folder that has some and no video."""
  place = user_path(path)
  if not place.is_dir():
    return place.suffix.lower() in (*SUFFIXES, ROS1_SUFFIX)  # that one is explained
  has_video = any(inside.suffix.lower() in VIDEO_SUFFIXES for inside in place.iterdir())
  return not has_video and bool(_bags_of(place))


def first_camera(config: Any) -> Config:
  """Returns the config of the images of a recording's first camera, from a `streams.video.Config`."""
  return Config(topics=(PIXELS,), max_age_s=config.max_gap_s, **from_video(config))


def find_bags(path: str) -> tuple[tuple[str, ...], ...]:
  """Returns the files of each recording, in order.

  Raises:
    FileNotFoundError: Something named is not there.
    ValueError: `path` is empty, or a folder has no recording.
  """
  found: list[tuple[str, ...]] = []
  for part in [part.strip() for part in path.split(",") if part.strip()]:
    place = user_path(part)
    if place.is_file():
      found.append((str(place),))
    elif place.is_dir():
      bags = _bags_of(place)
      if not bags:
        raise ValueError(f"bags: the folder {place} has no {' or '.join(SUFFIXES)} file.")
      found += bags
    else:
      names = sorted(glob.glob(str(place), recursive=True), key=natural_key)
      if not names:
        raise FileNotFoundError(f"bags: {why_no_file(part, 'file, folder or match for')}.")
      found += [bag for name in names for bag in find_bags(name)]
  if not found:
    raise ValueError("bags: path is empty; give an .mcap or .db3 file, or the folder of a bag.")
  return tuple(found)


def _bags_of(folder: pathlib.Path) -> list[tuple[str, ...]]:
  """Returns the recordings of a folder: itself, its files, or the bags in it."""
  inside = sorted(folder.iterdir(), key=lambda place: natural_key(place.name))
  files = [str(p) for p in inside if p.suffix.lower() in SUFFIXES and p.is_file()]
  if files:
    return [tuple(files)] if (folder / METADATA).is_file() else [(file,) for file in files]
  bags = (_bags_of(p) for p in inside if (p / METADATA).is_file())
  return [bag for some in bags for bag in some]


_OPENERS: Mapping[bytes, Callable[[str, Ledger], BagFile]] = {
  mcap_file.MAGIC: mcap_file.McapFile,
  rosbag_file.MAGIC: rosbag_file.SqliteFile,
}


class Bag:
  """One recording.

  Attributes:
    chosen: Topic of each modality.
    sensors: By modality.
  """

  def __init__(self, files: tuple[str, ...], config: Config):
    """Opens a recording; raises DamagedError, RefusedError or ValueError."""
    self._path, self._config = files[0], config
    self._ledger = Ledger(files[0], config.on_damage)
    self._files: list[BagFile] = []
    try:
      for file in files:
        self._files.append(_open(file, self._ledger))
      self._place_topics()
    except BaseException:
      self.close()
      raise

  def _place_topics(self) -> None:
    sources = self._sources()
    self.chosen = choose(sources, self._config.topics, self._path)
    used = {m: next(s for s in sources if s.topic.name == t) for m, t in self.chosen.items()}
    check_span(self._path, [source.topic for source in used.values()])
    leaders = [used[PIXELS]] if PIXELS in used else list(used.values())
    start_ns = min(int(source.topic.times_ns[0]) for source in leaders)
    self._last_ns = max(int(s.topic.times_ns[-1]) for s in leaders) - start_ns
    self.sensors = {
      name: make_sensor(source, self._config, start_ns, self._ledger)
      for name, source in used.items()
    }
    self._newest = Newest(self.sensors, self._config.rate_hz, self._config.max_age_s)
    self._rate = exact_rate(self._config.rate_hz)

  def _sources(self) -> list[Source]:
    """Returns the topics of all files, those of one name put together."""
    parts: dict[tuple[str, str, str], list[tuple[int, Topic]]] = {}
    for number, file in enumerate(self._files):
      for topic in file.topics:
        parts.setdefault(topic[:3], []).append((number, topic))
    return [self._source(list(found)) for _, found in sorted(parts.items())]

  def _source(self, parts: list[tuple[int, Topic]]) -> Source:
    times_ns = np.concatenate([topic.times_ns for _, topic in parts])
    places = np.concatenate([topic.places for _, topic in parts])
    files = np.concatenate([np.full(len(t.times_ns), n, np.int32) for n, t in parts])
    order = np.argsort(times_ns, kind="stable")
    topic = parts[0][1]._replace(times_ns=times_ns[order], places=places[order])
    files = files[order]
    return Source(topic, lambda at: self._files[files[at]].read(topic.places[at]))

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and validity at a tick; None after the last image."""
    if tick * 10**9 > self._last_ns * self._rate:
      return None
    return self._newest.read(tick) | no_sound(self._config)

  def close(self) -> None:
    """Closes the files, and logs the damage."""
    for file in self._files:
      file.close()
    self._files = []
    self._ledger.close()


def _open(path: str, ledger: Ledger) -> BagFile:
  place = user_path(path)
  if not place.is_file():
    raise FileNotFoundError(f"bags: {why_no_file(path)}.")
  with place.open("rb") as file:
    start = file.read(16)
  for magic, opener in _OPENERS.items():
    if start.startswith(magic):
      return opener(str(place), ledger)
  if start.startswith(_ROS1_MAGIC):
    raise ValueError(
      f"bags: {path} is a bag of ROS 1; convert it to ROS 2 with the tool of the package rosbags (extra "
      f"`records`): rosbags-convert --src {shlex.quote(str(place))} --dst "
      f"{shlex.quote(str(place.with_suffix('')))}, then use that folder."
    )
  raise DamagedError(
    f"{path} is no MCAP file and no SQLite database (it starts with {start[:8]!r}). Unpack a bag "
    f"that is packed as a whole (.zstd) first."
  )
