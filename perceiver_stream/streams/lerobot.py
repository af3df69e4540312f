"""LeRobot data sets, v3.0 and v2.x: episodes of a robot's cameras, state and actions, without torch.

An episode is a recording: tick i comes at the time i / rate_hz after its first frame. Videos are
decoded in order, and resuming starts at the key frame before.

Needs the extra `records` (pyarrow).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import grain
import numpy as np

from perceiver_stream.streams.base import CROPS, StreamConfig, audio_spec, exact_rate, pixels_spec
from perceiver_stream.streams.damage import ON_DAMAGE, DamagedError, Ledger
from perceiver_stream.streams.frame_rate import exact
from perceiver_stream.streams.lerobot_files import (
  Episode,
  Info,
  path_of,
  read_episodes,
  read_info,
  read_vectors,
)
from perceiver_stream.streams.lerobot_files import is_lerobot as is_lerobot
from perceiver_stream.streams.media import choose, reason
from perceiver_stream.streams.opening import open_media
from perceiver_stream.streams.picker import Picker
from perceiver_stream.streams.recorded import Newest, RecordedStream, Sensor, from_video, no_sound
from perceiver_stream.types import ModalitySpec

PIXELS = "pixels"
_DEFAULTS = {"proprioception": "observation.state", "actions": "action"}
_SEEK_S = 2  # a frame further ahead is sought; nearer ones are decoded up to


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of episodes.

  Attributes:
    path: Folder of the data set, with `meta/info.json`.
    rate_hz: Ticks per second; 0: the frames per second of the data set.
    features: `"NAME=FEATURE"` each, as `"pixels=observation.images.wrist"`: the modality and its
      feature, a video or numbers. A name alone is `pixels`, the first camera; `proprioception`,
      which is `observation.state`; or `actions`, which is `action`. Empty: those of these that
      there are.
    episodes: Numbers of the episodes to read; empty is all.
    audio_rate_hz: Data sets have no sound; 0 leaves it out, otherwise it is not valid.
    height: Rows of images.
    width: Columns.
    crop: `"centre"` keeps the aspect ratio and cuts the longer side; `"squash"` keeps all.
    loops: Passes over the episodes; -1 is endless.
    on_damage: `"stop"` with an error, or `"skip"`: continue after images that cannot be decoded.
  """

  path: str = ""
  rate_hz: float = 0.0
  features: tuple[str, ...] = ()
  episodes: tuple[int, ...] = ()
  audio_rate_hz: int = 0
  height: int = 64
  width: int = 64
  crop: str = "centre"
  loops: int = 1
  on_damage: str = "stop"

  def check_rates(self) -> None:
    """Checks the rates; raises ValueError."""
    if self.rate_hz:
      super().check_rates()

  def validate(self) -> None:
    """Checks the fields, but not that the files are there; raises ValueError."""
    super().validate()
    for name in ("height", "width"):
      if getattr(self, name) < 1:
        raise ValueError(f"lerobot: {name}={getattr(self, name)} pixels; use at least 1.")
    for name, valid in (("crop", CROPS), ("on_damage", ON_DAMAGE)):
      if getattr(self, name) not in valid:
        raise ValueError(f"lerobot: {name}={getattr(self, name)!r}; use one of {valid}.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"lerobot: loops={self.loops}; use at least 1, or -1 for endless.")
    names = [entry.partition("=")[0] for entry in self.features]
    if not all(names) or len(set(names)) < len(names) or "audio" in names:
      raise ValueError(
        f"lerobot: features={self.features}; use a name of its own for each, NAME=FEATURE."
      )


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick, as the data set's description has them."""
  info = read_info(config.path)
  config = _at_rate(config, info)
  rate_hz, known = float(exact_rate(config.rate_hz)), {}
  for name, feature in chosen(config, info).items():
    known[name] = (
      pixels_spec(config, config.height, config.width)
      if feature in info.videos
      else ModalitySpec(shape=(info.vectors[feature],), maximum=0.0, rate_hz=rate_hz)
    )
  return known | ({"audio": audio_spec(config)} if config.audio_rate_hz else {})


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the episodes row, row + num_rows, ...

  Raises:
    FileNotFoundError: There is no data set.
    ImportError: pyarrow is not installed.
    ValueError: There are fewer episodes than rows, or a feature is not there.
  """
  info = read_info(config.path)
  chosen(config, info)
  found = read_episodes(info)
  if missing := set(config.episodes) - {episode.number for episode in found}:
    raise ValueError(
      f"lerobot: episodes={sorted(missing)[:10]} are not among the {len(found)} of {info.folder}."
    )
  found = [e for e in found if not config.episodes or e.number in config.episodes]
  if len(found) < num_rows:
    raise ValueError(
      f"lerobot: {num_rows} rows need at least as many episodes, but path={config.path!r} has "
      f"{len(found)}; use fewer rows."
    )
  sources = [(info, episode) for episode in found[row::num_rows]]
  return RecordedStream(_at_rate(config, info), sources, Recording)


def first_camera(config: Any) -> Config:
  """Returns the config of the images of a data set's first camera, from a `streams.video.Config`."""
  return Config(features=(PIXELS,), **from_video(config))


def _at_rate(config: Config, info: Info) -> Config:
  config = replace(config, rate_hz=config.rate_hz or float(info.fps))
  config.validate()
  return config


def chosen(config: Config, info: Info) -> dict[str, str]:
  """Returns the feature of each modality; ValueError, with a list, if one is not there."""
  defaults = {PIXELS: info.videos[0]} if info.videos else {}
  defaults |= {name: f for name, f in _DEFAULTS.items() if f in info.vectors}
  found = {}
  for entry in config.features or defaults:
    name, _, feature = entry.partition("=")
    feature = feature or defaults.get(name, "")
    if feature not in info.videos and feature not in info.vectors:
      raise ValueError(
        f"lerobot: features={entry!r} is not in {info.folder}, or stored in a way that is not read; it "
        f"has the videos {list(info.videos)} and the numbers {dict(info.vectors)}."
      )
    found[name] = feature
  if not found:
    raise ValueError(f"lerobot: {info.folder} has no video, state or action; choose features.")
  return found


class Frames(Sequence):
  """Times of the frames of an episode, s."""

  def __init__(self, length: int, fps: Fraction):
    self._length, self._fps = length, fps

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, at: Any) -> Any:
    return at / self._fps


class Recording:
  """One episode."""

  def __init__(self, source: tuple[Info, Episode], config: Config):
    """Opens the files of an episode."""
    info, episode = source
    self._config, self._rate = config, exact_rate(config.rate_hz)
    self._end = (episode.length - 1) / info.fps
    self._ledger = Ledger(f"{info.folder}, episode {episode.number}", config.on_damage)
    self._videos: list[Video] = []
    times, known, features = Frames(episode.length, info.fps), specs(config), chosen(config, info)
    names = [feature for feature in features.values() if feature in info.vectors]
    vectors = read_vectors(info, episode, names) if names else {}
    sensors = {
      name: Sensor(
        known[name],
        times,
        self._rows(vectors[feature]) if feature in vectors else self._video(info, episode, feature),
      )
      for name, feature in features.items()
    }
    self._newest = Newest(sensors, config.rate_hz, float(2 / info.fps))

  def _rows(self, array: np.ndarray) -> Any:
    array.flags.writeable = False

    def load(at: int) -> np.ndarray | None:
      return array[at] if np.isfinite(array[at]).all() else None

    return load

  def _video(self, info: Info, episode: Episode, camera: str) -> Any:
    path = str(path_of(info, info.video_path, episode.places[camera]))
    video = Video(path, Fraction(episode.starts[camera]), info.fps)
    picker = Picker(self._config.height, self._config.width, self._config.crop)
    self._videos.append(video)

    def load(at: int) -> np.ndarray | None:
      try:
        return picker(video.frame(at))
      except DamagedError as error:
        self._ledger.book("packets", f"frame {at} of {camera}: {error}")
        return None

    return load

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and validity at a tick; None after the last frame."""
    if tick / self._rate > self._end:
      return None
    return self._newest.read(tick) | no_sound(self._config)

  def close(self) -> None:
    """Closes the videos, and logs the damage."""
    for video in self._videos:
      video.close()
    self._ledger.close()


class _Decoded(NamedTuple):
  """A frame and its time in the video, s."""

  time: Fraction
  frame: av.VideoFrame


class Video:
  """Frames of an episode by number, from a video that may have several episodes."""

  def __init__(self, path: str, start: Fraction, fps: Fraction):
    """Makes one; the file is opened at the first frame.

    Args:
      path: Of the video.
      start: Time of the episode's first frame in it, s.
      fps: Frames per second.
    """
    self._path, self._start, self._step = path, start, 1 / fps
    self._container: Any = None
    self._track: Any = None
    self._decoded: Iterator[_Decoded] = iter(())
    self._now: _Decoded | None = None
    self._next: _Decoded | None = None

  def frame(self, at: int) -> av.VideoFrame:
    """Returns the frame of a number; DamagedError if there is none, or it is damaged."""
    due = self._start + at * self._step
    latest = due + self._step / 2  # times in data sets are rounded
    if self._now is None or not self._now.time <= latest < self._now.time + _SEEK_S:
      self._seek(due)
    while self._next is not None and self._next.time <= latest:
      self._now, self._next = self._next, next(self._decoded, None)
    if self._now is None or not due - self._step / 2 <= self._now.time <= latest:
      raise DamagedError(f"{self._path} has no image at {float(due):.3f} s")
    if self._now.frame.is_corrupt:
      raise DamagedError(f"{self._path} is damaged at {float(due):.3f} s")
    return self._now.frame

  def _seek(self, due: Fraction) -> None:
    """Goes to the key frame before a time."""
    self._now = self._next = None
    try:
      if self._container is None:
        self._container = open_media(self._path)
        self._track = choose(self._container, "video", -1, self._path)
        if self._track is None:
          raise DamagedError(f"{self._path} has no video")
        self._track.thread_type = "NONE"
      unit = exact(self._track.time_base) or Fraction(1)
      place = int(max(Fraction(0), due - self._step / 2) / unit)
      self._container.seek(place, stream=self._track, backward=True)
    except (av.error.FFmpegError, OSError) as error:
      raise DamagedError(f"{self._path} cannot be read: {reason(error)}") from error
    self._decoded = self._decode()
    self._next = next(self._decoded, None)

  def _decode(self) -> Iterator[_Decoded]:
    try:
      for frame in self._container.decode(self._track):
        if frame.pts is not None:
          yield _Decoded(frame.pts * (exact(frame.time_base) or Fraction(0)), frame)
    except (av.error.FFmpegError, ValueError):
      return  # the frames after it are missing, which their reader notices

  def close(self) -> None:
    """Closes the file."""
    self._decoded = iter(())
    if self._container is not None:
      self._container.close()
      self._container = None
