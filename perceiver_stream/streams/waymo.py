"""Segments of the Waymo Open Dataset (perception, version 1, TFRecord): one camera, without TensorFlow.

A file is a recording of about 20 s at 10 Hz. Ticks hold the newest image of the camera and the pose of
the vehicle when it was taken. Lidar and labels are not read. Version 2 (Parquet) is not read.

Source: the fields of `Frame` and `CameraImage` in waymo_open_dataset/dataset.proto of the repository
waymo-research/waymo-open-dataset.
"""

import glob
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import grain
import numpy as np

from perceiver_stream.files import limits, protobuf, tfrecords
from perceiver_stream.streams.base import CROPS, StreamConfig, check_least, exact_rate, pixels_spec
from perceiver_stream.streams.damage import ON_DAMAGE, DamagedError, Ledger
from perceiver_stream.streams.image_files import decode_image
from perceiver_stream.streams.picker import Picker
from perceiver_stream.streams.recorded import Newest, RecordedStream, Sensor
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path, why_no_file

CAMERAS = ("front", "front_left", "front_right", "side_left", "side_right")  # from number 1
_TIME, _IMAGES = 2, 4  # of a Frame
_NAME, _IMAGE, _POSE = 1, 2, 3  # of a CameraImage
_HEAD_BYTES = 2**16  # in which the time of a frame comes, unless written in another order


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of segments.

  Attributes:
    path: A .tfrecord file, a folder of them, or a pattern.
    camera: One of `CAMERAS`.
    rate_hz: Ticks per second; cameras have 10.
    audio_rate_hz: 0: there is no sound.
    height: Rows of images.
    width: Columns.
    crop: `"centre"` keeps the aspect ratio and cuts the longer side; `"squash"` keeps all.
    max_age_s: Older than this, an image is not valid.
    loops: Passes over the segments; -1 is endless.
    on_damage: `"stop"` with an error, or `"skip"`: continue after images that cannot be decoded.
  """

  path: str = ""
  camera: str = "front"
  rate_hz: float = 10.0
  audio_rate_hz: int = 0
  height: int = 64
  width: int = 64
  crop: str = "centre"
  max_age_s: float = 0.25
  loops: int = 1
  on_damage: str = "stop"

  def validate(self) -> None:
    """Checks the fields, but not that the files are there; raises ValueError."""
    super().validate()
    if self.audio_rate_hz:
      raise ValueError(f"waymo: audio_rate_hz={self.audio_rate_hz}; there is no sound, use 0.")
    check_least("waymo", self, {"height": 1, "width": 1})
    choices = {"camera": CAMERAS, "crop": CROPS, "on_damage": ON_DAMAGE}
    for name, valid in choices.items():
      if getattr(self, name) not in valid:
        raise ValueError(f"waymo: {name}={getattr(self, name)!r}; use one of {valid}.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"waymo: loops={self.loops}; use at least 1, or -1 for endless.")
    if self.max_age_s <= 0:
      raise ValueError(f"waymo: max_age_s={self.max_age_s}; use a positive number of seconds.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the specs of `pixels` and `vehicle`, its pose to world as 3 x 4 numbers, row by row."""
  pixels = pixels_spec(config, config.height, config.width)
  pose = ModalitySpec(shape=(12,), maximum=0.0, rate_hz=pixels.rate_hz, units="1, m")
  return {"pixels": pixels, "vehicle": pose}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the segments row, row + num_rows, ... in the order of their names.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: There are fewer segments than rows.
  """
  place = user_path(config.path)
  pattern = str(place / "*.tfrecord*") if place.is_dir() else str(place)
  found = sorted(name for name in glob.glob(pattern) if user_path(name).is_file())
  if not found or not config.path:
    why = why_no_file(config.path, ".tfrecord file, or match for")
    raise FileNotFoundError(f"waymo: {why} (path={config.path!r}).")
  if len(found) < num_rows:
    raise ValueError(
      f"waymo: {num_rows} rows need at least as many segments, but path={config.path!r} has "
      f"{len(found)}; use fewer rows."
    )
  return RecordedStream(config, found[row::num_rows], Segment)


class Segment:
  """One file, held open."""

  def __init__(self, path: str, config: Config):
    self._config, self._path, self._rate = config, path, exact_rate(config.rate_hz)
    self._ledger = Ledger(path, config.on_damage)
    self._kept: tuple[int, dict[int, protobuf.Value]] = (-1, {})
    try:
      self._places = tfrecords.places(user_path(path))
      with user_path(path).open("rb") as file:
        times = [self._time(file, at) for at in range(len(self._places))]
    except (ValueError, OSError) as error:
      raise DamagedError(f"waymo: {path} cannot be read: {error}") from error
    if not times or times != sorted(times) or times[-1] - times[0] > limits.MAX_SECONDS:
      raise DamagedError(f"waymo: {path} has {len(times)} frames, expected some, in order of time.")
    self._file = user_path(path).open("rb")
    self._times = [time - times[0] for time in times]
    self._picker = Picker(config.height, config.width, config.crop)
    known = specs(config)
    sensors = {
      "pixels": Sensor(known["pixels"], self._times, self._pixels),
      "vehicle": Sensor(known["vehicle"], self._times, self._vehicle),
    }
    self._newest = Newest(sensors, config.rate_hz, config.max_age_s)

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and their validity at a tick; None after the last frame."""
    return None if tick / self._rate > self._times[-1] else self._newest.read(tick)

  def close(self) -> None:
    """Closes the file, and logs the damage."""
    self._file.close()
    self._ledger.close()

  def _time(self, file: BinaryIO, at: int) -> Fraction:
    """Returns the time of a frame, in seconds; ValueError if it has none."""
    place, where = self._places[at], f"{self._path}, record {at}"
    for most in (_HEAD_BYTES, limits.MAX_CHUNK_BYTES):
      try:
        for number, value in protobuf.fields(memoryview(tfrecords.read(file, place, most)), where):
          if number == _TIME and isinstance(value, int):
            return Fraction(value, 10**6)
      except ValueError:  # the head ends within a field
        if place.size <= most:
          raise
    raise ValueError(f"{where}: a frame without a time, expected timestamp_micros")

  def _camera(self, at: int) -> dict[int, protobuf.Value]:
    """Returns the fields of the camera's image in a frame; {} if it has none."""
    if self._kept[0] != at:
      where = f"{self._path}, record {at}"
      data = memoryview(tfrecords.read(self._file, self._places[at]))
      wanted = CAMERAS.index(self._config.camera) + 1
      images = (
        dict(_images(value, where)) for n, value in protobuf.fields(data, where) if n == _IMAGES
      )
      self._kept = at, next((image for image in images if image.get(_NAME) == wanted), {})
    return self._kept[1]

  def _pixels(self, at: int) -> np.ndarray | None:
    try:
      data = self._camera(at).get(_IMAGE)
      if not isinstance(data, memoryview):
        raise DamagedError(f"no image of camera {self._config.camera!r}")
      return self._picker(decode_image(bytes(data), "mjpeg", f"record {at}"))
    except ValueError as error:
      self._ledger.book("packets", f"record {at}: {error}")
      return None

  def _vehicle(self, at: int) -> np.ndarray | None:
    try:
      numbers = _doubles(self._camera(at).get(_POSE), f"{self._path}, record {at}")
    except ValueError:  # booked with the image
      return None
    good = len(numbers) == 16 and np.isfinite(numbers).all() and np.abs(numbers).max() < 1e9
    return np.asarray(numbers[:12], np.float32) if good else None


def _images(value: protobuf.Value, where: str) -> Iterator[tuple[int, protobuf.Value]]:
  if isinstance(value, memoryview):
    yield from protobuf.fields(value, where)


def _doubles(value: protobuf.Value | None, where: str) -> list[float]:
  """Returns the numbers of a Transform, packed or not."""
  found: list[float] = []
  if isinstance(value, memoryview):
    for number, inner in protobuf.fields(value, where):
      if number == 1 and isinstance(inner, memoryview) and len(inner) % 8 == 0:
        found += struct.unpack(f"<{len(inner) // 8}d", inner)
      elif number == 1 and isinstance(inner, float):
        found.append(inner)
  return found
