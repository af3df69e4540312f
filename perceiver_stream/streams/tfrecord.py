"""TFRecord files and TFDS folders of clips, MOVi-style, read with tf.data in order.

A record is a recording: a `tf.train.Example` or `SequenceExample` with the features of
`streams.clips`. A folder with dataset_info.json is opened by tensorflow-datasets, and read in the
order of its files. Needs the `tf` extra, which is imported at the first tick.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grain

from perceiver_stream.streams.base import (
  CROPS,
  StreamConfig,
  check_state,
  exact_rate,
  is_over,
  make_tick,
  pixels_spec,
)
from perceiver_stream.streams.clips import FEATURES, POINTS, Clip, features_of, make_clip
from perceiver_stream.streams.tf_reader import Reader
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path

MODALITIES = (*FEATURES, *POINTS[1:])


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of records.

  Attributes:
    path: A TFRecord file, a glob pattern, a folder of them, or a TFDS folder (with
      dataset_info.json).
    split: Of a TFDS folder.
    rate_hz: Of the clips: each image is a tick.
    audio_rate_hz: 0: clips have no sound.
    height: Rows of the image and all dense modalities.
    width: Columns.
    crop: `"centre"` cuts what sticks out; `"squash"` keeps all.
    modalities: Modalities of a tick, a subset of `MODALITIES`; points come with their visibility and ids.
    num_points: Tracks in a tick, the first of the record; fewer are filled up, never visible.
    flow_order: "yx", as MOVi documents its flow, or "xy".
    loops: Passes over the records; -1 is endless.
  """

  rate_hz: float = 12.0
  audio_rate_hz: int = 0
  path: str = ""
  split: str = "train"
  height: int = 64
  width: int = 64
  crop: str = "centre"
  modalities: tuple[str, ...] = ("pixels", "depth", "flow", "segmentation")
  num_points: int = 64
  flow_order: str = "yx"
  loops: int = 1

  def validate(self) -> None:
    """Checks the fields, but not that the files are there; raises ValueError."""
    super().validate()
    if self.audio_rate_hz:
      raise ValueError(f"tfrecord: audio_rate_hz={self.audio_rate_hz}; clips have no sound, use 0.")
    for name in ("height", "width", "num_points"):
      if getattr(self, name) < 1:
        raise ValueError(f"tfrecord: {name}={getattr(self, name)}; use at least 1.")
    for name, valid in (("crop", CROPS), ("flow_order", ("yx", "xy"))):
      if getattr(self, name) not in valid:
        raise ValueError(f"tfrecord: {name}={getattr(self, name)!r}; use one of {valid}.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"tfrecord: loops={self.loops}; use at least 1, or -1 for endless.")
    if not self.modalities or not set(self.modalities) <= set(MODALITIES):
      raise ValueError(f"tfrecord: modalities={self.modalities}; use some of {MODALITIES}.")
    if 0 < len(set(self.modalities) & set(POINTS)) < len(POINTS):
      raise ValueError(f"tfrecord: modalities={self.modalities}; {POINTS} come together.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  size, num = (config.height, config.width), config.num_points
  rate = float(exact_rate(config.rate_hz))

  def free(shape: tuple[int, ...], units: str, dtype: str = "float32") -> ModalitySpec:
    return ModalitySpec(shape=shape, dtype=dtype, maximum=0.0, rate_hz=rate, units=units)

  known = {
    "pixels": pixels_spec(config, *size),
    "depth": free(size, "m"),
    "flow": free((*size, 2), "px/tick"),
    "flow_backward": free((*size, 2), "px/tick"),
    "segmentation": ModalitySpec(
      shape=size, dtype="int32", maximum=255.0, rate_hz=rate, units="thing"
    ),
    "camera": free((12,), "1, m"),
    "points": free((num, 2), "px"),
    "points_visible": ModalitySpec(shape=(num,), dtype="bool", rate_hz=rate, units="truth"),
    "points_id": free((num,), "id", "int32"),
  }
  return {name: known[name] for name in config.modalities}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the records row, row + num_rows, ...; imports nothing heavy.

  Raises:
    FileNotFoundError: There is no such file.
  """
  place = user_path(config.path)
  if not config.path:
    raise ValueError("tfrecord: path is empty; name a TFRecord file or a TFDS folder.")
  if place.is_dir():
    files = sorted(str(p) for p in place.iterdir() if ".tfrecord" in p.name)
    found = ["tfds"] if (place / "dataset_info.json").is_file() else files
  else:
    found = sorted(glob.glob(str(place)))
  if not found:
    raise FileNotFoundError(f"tfrecord: there is no file, folder or match for {config.path!r}.")
  return RecordStream(config, () if found == ["tfds"] else tuple(found), row, num_rows)


class RecordStream(grain.IterDataset):
  """The records of one row; no files: those of the TFDS folder."""

  def __init__(self, config: Config, files: tuple[str, ...], row: int, num_rows: int):
    super().__init__()
    self.config, self.files, self.row, self.num_rows = config, files, row, num_rows

  def __iter__(self) -> "RecordIterator":
    return RecordIterator(self)


class RecordIterator(grain.DatasetIterator):
  """Holds one clip."""

  def __init__(self, stream: RecordStream):
    super().__init__()
    self._stream, self._config = stream, stream.config
    self._rate = exact_rate(stream.config.rate_hz)
    self._records: Any = None
    self._clip: Clip | None = None
    self._reader: Any = None
    self._state = {"loop": 0, "record": 0, "tick": 0, "count": 0}

  def __next__(self) -> dict[str, Any]:
    state, config = self._state, self._config
    while not is_over(state, config):
      clip = self._clip = self._clip or self._next_clip()
      if clip is None:
        self._next_loop()
      elif state["tick"] < len(next(iter(clip.values()))[1]):
        at = state["tick"]
        values = {name: (value[at], bool(valid[at])) for name, (value, valid) in clip.items()}
        tick = make_tick(values, at == 0, state["count"] / self._rate)
        state |= {"tick": at + 1, "count": state["count"] + 1}
        return tick
      else:
        state |= {"record": state["record"] + 1, "tick": 0}
        self._clip = None
    raise StopIteration

  def _next_clip(self) -> Clip | None:
    stream, record = self._stream, self._state["record"]
    self._reader = self._reader or Reader(
      stream.files, self._config.path, self._config.split, features_of(self._config.modalities)
    )
    where = f"{self._config.path}: record {stream.row + record * stream.num_rows}"
    if self._records is None:
      self._records = self._reader.records(stream.row, stream.num_rows, record)
    stored = self._reader.read(self._records, where)
    return None if stored is None else make_clip(stored, self._config, where)

  def _next_loop(self) -> None:
    if not self._state["record"]:
      raise ValueError(
        f"tfrecord: row {self._stream.row} of {self._stream.num_rows} has no record in "
        f"{self._config.path}; use fewer rows."
      )
    self._records = None
    self._state |= {"loop": self._state["loop"] + 1, "record": 0, "tick": 0}

  def get_state(self) -> dict[str, int]:
    """Returns the position of the next tick."""
    return dict(self._state)

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes to a tick; records before it are skipped, not decoded."""
    check_state("record stream", state, self._state)
    self._state = {name: int(value) for name, value in state.items()}
    self._clip = self._records = None
