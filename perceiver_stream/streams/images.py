"""Folders of numbered or timed images with depth: ViSP's castel, TUM RGB-D, ScanNet.

Tick i of a sequence comes at the time i / rate_hz after its first image. Images, depth and pose
are the last ones taken by then, each by its own clock, and valid if not older than `max_age_s`.
Missing or unreadable files are damage: the previous one is repeated, and not valid. Depth is
in metres, NaN where the sensor had none. Layouts: `streams.image_files`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams import image_files
from perceiver_stream.streams.base import (
  CROPS,
  StreamConfig,
  exact_rate,
  pixels_spec,
)
from perceiver_stream.streams.damage import ON_DAMAGE, DamagedError, Ledger
from perceiver_stream.streams.image_files import NAMES, UNITS, Track, find_sequences
from perceiver_stream.streams.recorded import Newest, RecordedStream, Sensor
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of sequences.

  Attributes:
    path: A folder that is a sequence, or that holds some; or several between commas.
    layout: "visp", "tum", "scannet", or "auto".
    audio_rate_hz: 0: images have no sound.
    height: Rows of the image and of depth.
    width: Columns.
    crop: `"centre"` cuts what sticks out; `"squash"` keeps all.
    modalities: Modalities of a tick: "pixels", "depth", "camera" (3 x 4 matrix from camera to world, by
      rows).
    source_rate_hz: Images per second where files have numbers and no times.
    depth_unit_m: Metres of one depth value; 0 is that of the layout.
    max_age_s: Older than this, what was taken last is not valid.
    loops: Passes over the sequences; -1 is endless.
    on_damage: `"stop"` with an error, or `"skip"`: continue after it and warn.
  """

  rate_hz: float = 30.0
  audio_rate_hz: int = 0
  path: str = ""
  layout: str = "auto"
  height: int = 64
  width: int = 64
  crop: str = "centre"
  modalities: tuple[str, ...] = ("pixels", "depth")
  source_rate_hz: float = 30.0
  depth_unit_m: float = 0.0
  max_age_s: float = 0.1
  loops: int = 1
  on_damage: str = "stop"

  def validate(self) -> None:
    """Checks the fields, but not that the folders are there; raises ValueError."""
    super().validate()
    exact_rate(self.source_rate_hz)
    if self.audio_rate_hz:
      raise ValueError(f"images: audio_rate_hz={self.audio_rate_hz}; images have no sound, use 0.")
    choices = (("layout", (*UNITS, "auto")), ("crop", CROPS), ("on_damage", ON_DAMAGE))
    for name, valid in choices:
      if getattr(self, name) not in valid:
        raise ValueError(f"images: {name}={getattr(self, name)!r}; use one of {valid}.")
    for name in ("height", "width"):
      if getattr(self, name) < 1:
        raise ValueError(f"images: {name}={getattr(self, name)} pixels; use at least 1.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"images: loops={self.loops}; use at least 1, or -1 for endless.")
    if self.max_age_s <= 0 or self.depth_unit_m < 0:
      raise ValueError(
        f"images: max_age_s={self.max_age_s}, depth_unit_m={self.depth_unit_m}; use positive ones."
      )
    if "pixels" not in self.modalities or not set(self.modalities) <= set(NAMES):
      raise ValueError(f"images: modalities={self.modalities}; use 'pixels' and some of {NAMES}.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  pixels = pixels_spec(config, config.height, config.width)
  known = {
    "pixels": pixels,
    "depth": ModalitySpec(shape=pixels.shape[:2], maximum=0.0, rate_hz=pixels.rate_hz, units="m"),
    "camera": ModalitySpec(shape=(12,), maximum=0.0, rate_hz=pixels.rate_hz, units="1, m"),
  }
  return {name: known[name] for name in config.modalities}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the sequences row, row + num_rows, ...

  Raises:
    FileNotFoundError: A folder is not there.
    ValueError: There are fewer sequences than rows.
  """
  found = find_sequences(config.path, config.layout)
  if len(found) < num_rows:
    raise ValueError(
      f"images: {num_rows} rows need at least as many sequences, but path={config.path!r} has "
      f"{len(found)}; use fewer rows or more sequences."
    )
  return RecordedStream(config, found[row::num_rows], open_sequence)


def open_sequence(source: tuple[str, str], config: Config) -> "Sequence":
  """Returns the recording of a folder and its layout."""
  return Sequence(*source, config)


class Sequence:
  """One folder: what was taken last at any time."""

  def __init__(self, folder: str, layout: str, config: Config):
    self._config, self._unit_m = config, config.depth_unit_m or UNITS[layout]
    self._rate = exact_rate(config.rate_hz)
    self.ledger = Ledger(folder, config.on_damage)
    source_rate = exact_rate(config.source_rate_hz)
    tracks = image_files.read_tracks(user_path(folder), layout, source_rate)
    for name in config.modalities:
      if not tracks[name].times:
        raise DamagedError(
          f"{folder} (layout {layout!r}) has no {name}; leave it out of modalities."
        )
    self._end = tracks["pixels"].times[-1]
    known = specs(config)
    sensors = {n: Sensor(known[n], tracks[n].times, self._loader(n, tracks[n])) for n in known}
    self._newest = Newest(sensors, config.rate_hz, config.max_age_s)

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and validity at a tick; None after the last image."""
    return None if tick / self._rate > self._end else self._newest.read(tick)

  def close(self) -> None:
    """Logs the damage."""
    self.ledger.close()

  def _loader(self, name: str, track: Track) -> Callable[[int], np.ndarray | None]:
    return lambda at: self._load(name, track.items[at])

  def _load(self, name: str, item: Any) -> np.ndarray | None:
    c = self._config
    if isinstance(item, int):
      self.ledger.book("lost", f"{item} {name} file(s) between others are missing", item)
      return None
    try:
      if name == "camera":
        return image_files.read_camera(item)
      if name == "pixels":
        return image_files.read_pixels(item, c.height, c.width, c.crop)
      return image_files.read_depth(item, c.height, c.width, c.crop, self._unit_m)
    except DamagedError as error:
      self.ledger.book("packets", f"{error}")
      return None
