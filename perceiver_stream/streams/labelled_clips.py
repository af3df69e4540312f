"""Clips of a data set, each a recording with its labels: `streams.clip_sets` has the data sets.

Images and sound are those of `streams.video`; a part of a long video is found by seeking. Ticks also hold
the labels of the clip, the same at each tick, and its number in the list of `clip_sets.read_clips`, by
which its caption is found. Where an address is accepted, `NAME:SPLIT:FOLDER` in the place of a video file
is such a stream without labels.

Without sound the first tick is the one nearest to the clip's start. With sound it is the next, which has the
sound since the start, and the third of a file at the earliest: so no tick lacks its sound, and a window of
whole clips has all of it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams import clip_sets, video
from perceiver_stream.streams.base import (
  CROPS,
  StreamConfig,
  audio_spec,
  check_least,
  exact_rate,
  pixels_spec,
)
from perceiver_stream.streams.clip_sets import LabelledClip
from perceiver_stream.streams.damage import ON_DAMAGE, Ledger
from perceiver_stream.streams.parts import NoPictures, PartPictures, PartSound
from perceiver_stream.streams.recorded import from_video as fields_of_video
from perceiver_stream.types import ModalitySpec, valid_key

CLIP = "clip"
# Tick 0 of a file has no sound, and resampled sound begins after the start of tick 1's.
_FIRST_WITH_SOUND = 2


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of labelled clips.

  Attributes:
    dataset: One of `clip_sets.CLIP_SETS`.
    split: One of those that its authors published.
    path: Folder of the data set.
    on_missing: `"stop"` with an error if videos are missing, or `"skip"` them with a warning.
    seed: Of the order of the clips; -1 is that of the list, which mostly goes class by class.
    clip_ticks: Ticks after which a clip is cut; 0 is none.
    labels: Whether ticks hold labels and `clip`.
    height: Rows of images.
    width: Columns.
    crop: `"centre"` keeps the aspect ratio and cuts the longer side; `"squash"` keeps all.
    loops: Passes over the clips; -1 is endless.
    on_damage: As in `video.Config`.
  """

  dataset: str = "ucf101"
  split: str = "train1"
  path: str = ""
  on_missing: str = "stop"
  seed: int = -1
  clip_ticks: int = 0
  labels: bool = True
  height: int = 64
  width: int = 64
  crop: str = "centre"
  loops: int = 1
  on_damage: str = "stop"

  def validate(self) -> None:
    """Checks the fields, but not that the files are there; raises ValueError."""
    super().validate()
    clip_sets.clip_set(self.dataset, self.split)
    check_least("labelled_clips", self, {"height": 1, "width": 1, "clip_ticks": 0, "seed": -1})
    choices = {"crop": CROPS, "on_damage": ON_DAMAGE, "on_missing": clip_sets.ON_MISSING}
    for name, valid in choices.items():
      if getattr(self, name) not in valid:
        raise ValueError(f"labelled_clips: {name}={getattr(self, name)!r}; use one of {valid}.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"labelled_clips: loops={self.loops}; use at least 1, or -1 for endless.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick; opens nothing.

  A label is int32 [], or float32 [K] with 1 for each class where a clip may have several.
  """
  known = {"pixels": pixels_spec(config, config.height, config.width)}
  known |= {"audio": audio_spec(config)} if config.audio_rate_hz else {}
  if not config.labels:
    return known
  kind, rate = clip_sets.CLIP_SETS[config.dataset], float(exact_rate(config.rate_hz))
  for name, count in kind.classes.items():
    shape, dtype, most = ((count,), "float32", 1) if kind.many else ((), "int32", count - 1)
    known[name] = ModalitySpec(
      shape=shape, dtype=dtype, maximum=float(most), rate_hz=rate, units="class id"
    )
  number = ModalitySpec(shape=(), dtype="int32", maximum=float(2**22), rate_hz=rate, units="id")
  return known | {CLIP: number}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the clips row, row + num_rows, ... in the order of the stream.

  Raises:
    FileNotFoundError: The data set, or videos of it, are missing; states how many.
    ValueError: A list cannot be used, or there are fewer clips than rows.
  """
  clips = clip_sets.read_clips(
    config.dataset, config.path, config.split, on_missing=config.on_missing
  )
  if len(clips) < num_rows:
    raise ValueError(
      f"labelled_clips: {num_rows} rows need at least as many clips, but split {config.split!r} in "
      f"path={config.path!r} has {len(clips)}; use fewer rows."
    )
  order = np.arange(len(clips))
  if config.seed >= 0:
    order = np.random.default_rng(config.seed).permutation(len(clips))
  chosen = tuple((int(number), clips[number]) for number in order[row::num_rows])
  return ClipStream(config, chosen)


def from_video(config: Any) -> Config:
  """Returns the config of the clips that a `video.Config` names by an address as its path.

  Missing videos count as damage: `on_damage="skip"` goes without them.

  Raises:
    ValueError: There is no such data set or split.
  """
  address = clip_sets.split_address(config.path)
  if address is None:
    raise ValueError(f"labelled_clips: path={config.path!r}; use NAME:SPLIT:FOLDER.")
  name, split, folder = address
  fields = fields_of_video(config) | {"path": folder, "labels": False}
  fields["on_missing"] = config.on_damage
  return Config(dataset=name, split=split, **fields)


class ClipStream(grain.IterDataset):
  """The ticks of numbered clips, one after the other."""

  def __init__(self, config: Config, clips: tuple[tuple[int, LabelledClip], ...]):
    super().__init__()
    self.config, self.clips = config, clips

  def __iter__(self) -> "ClipIterator":
    return ClipIterator(self.config, self.clips)


class ClipIterator(video.VideoIterator):
  """Holds the clip being read open."""

  def __init__(self, config: Config, clips: tuple[tuple[int, LabelledClip], ...]):
    names = ("rate_hz", "audio_rate_hz", "max_ticks", "height", "width", "crop", "loops")
    fields = {name: getattr(config, name) for name in (*names, "on_damage", "path")}
    super().__init__(video.Config(**fields), clips)
    self._clips = config
    self._known = {n: spec for n, spec in specs(config).items() if n not in ("pixels", "audio")}
    self._labels: tuple[int, dict[str, Any]] = (-1, {})

  def __next__(self) -> dict[str, Any]:
    tick = super().__next__()
    number, clip = self._files[self._state["file"]]  # of the tick; the next file comes later
    if self._labels[0] != number:
      self._labels = number, self._values(number, clip)
    return tick | self._labels[1]

  def _values(self, number: int, clip: LabelledClip) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, spec in self._known.items():
      given = (number,) if name == CLIP else clip.labels[name]
      if spec.shape:
        values[name] = np.zeros(spec.shape, spec.dtype)
        values[name][list(given)] = 1
      else:
        values[name] = np.asarray(given[0] if given else 0, spec.dtype)
      values[valid_key(name)] = np.bool_(bool(given))
    return values

  def _open(self, source: tuple[int, LabelledClip]) -> "ClipRecording":
    ledger = Ledger(source[1].path, self._config.on_damage)
    return ClipRecording(source[1], self._config, ledger, self._state, self._clips.clip_ticks)


class ClipRecording(video.Recording):
  """A clip: ticks of its file from its start on, with sound only those that have all of theirs."""

  def __init__(
    self, clip: LabelledClip, config: video.Config, ledger: Ledger, state: Any, most: int = 0
  ):
    rate = exact_rate(config.rate_hz)
    self._rate, self._clip = rate, clip
    self._first = start = round(Fraction(clip.start_s) * rate)
    if config.audio_rate_hz:
      self._first = max(start + 1, _FIRST_WITH_SOUND)
    self._stop: float = math.inf  # the first tick after it
    if clip.stop_s < math.inf:
      last = round(Fraction(clip.stop_s) * rate) - (not config.audio_rate_hz)
      self._stop = max(self._first, last) + 1
    if most:
      self._stop = min(self._stop, self._first + most)
    self._is_cut, self._has_ticks = False, bool(state["tick"])
    tick = state["tick"] + self._first if state["tick"] else 0
    super().__init__(clip.path, config, ledger, state | {"tick": tick})

  def _open_pictures(self, source: Any, config: video.Config, ledger: Ledger) -> Any:
    if PurePath(source).suffix.lower() not in clip_sets.AUDIO_SUFFIXES:
      return PartPictures(source, config, self._rate, ledger, self._first)
    if not config.audio_rate_hz:
      raise ValueError(f"labelled_clips: {source} has sound alone; set an audio_rate_hz.")
    return NoPictures(source, config, self._rate)

  def _open_sound(self, source: str, config: video.Config, ledger: Ledger) -> PartSound:
    first_s = (self._first - 1) / self._rate
    return PartSound(source, config, self.pictures.origin_s, ledger, first_s)

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and their validity at a tick of the clip; None after its last."""
    self._is_cut = self._first + tick >= self._stop
    values = None if self._is_cut else super().read(self._first + tick)
    self._has_ticks |= values is not None
    return values

  def finish(self) -> None:
    """Books losses, those after the clip excepted."""
    if not self._has_ticks:
      self.ledger.book("lost", f"it ends before its clip, which starts at {self._clip.start_s} s")
    if self._is_cut:
      self.ledger.close()
    else:
      super().finish()
