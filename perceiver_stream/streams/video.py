"""Files that PyAV opens, with their sound, and numbered images: one or a playlist as one stream.

Tick i of a file is at the time i / rate_hz after its first image. Its image is the last one
whose timestamp is not later, for any constant or variable rate of the file. Its sound is what was
recorded since the previous tick, ((i - 1) / rate_hz, i / rate_hz], so tick 0 usually has none, and the
last interval of a file, after its last tick, is not given. Each file of a playlist starts with
`is_first`; the stream's clock runs on.

With `rate_hz=0` each image of a file is a tick of its own, at its own time: tick i is image i,
however the file's images are spaced. Such ticks have no sound.

Memory does not grow with the length of the file: images are reduced as they are decoded, and
images and sound are read independently (the file is opened twice), so that neither waits in
memory for the other, however the file interleaves them.

To resume from a saved state, images are decoded from the key packet before (`key_packets`), or,
where times were out of order or images damaged, from the start of the file. Sound is decoded from
the last place at which its decoder restarts, which the run that never stops does too
(`audio_decoding`).
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams import bags, clip_sets, lerobot
from perceiver_stream.streams.base import (
  CROPS,
  StreamConfig,
  audio_spec,
  check_state,
  exact_rate,
  is_over,
  make_tick,
  pixels_spec,
  samples_per_tick,
)
from perceiver_stream.streams.damage import ON_DAMAGE, Damage, DamagedError, Ledger
from perceiver_stream.streams.image_sequence import ImageSequence
from perceiver_stream.streams.key_packets import Shown
from perceiver_stream.streams.pictures import Pictures
from perceiver_stream.streams.playlist import ImageFiles, Source, find_recordings, one_recording
from perceiver_stream.streams.sound import Heard, Sound
from perceiver_stream.streams.sound_extent import Extent, warn_of_left_out
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path

logger = logging.getLogger(__name__)

NO_DAMAGE = dataclasses.asdict(Damage())


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A stream of video files.

  Attributes:
    rate_hz: Ticks per second; 0: a tick for each image of a file, at the image's own time.
    audio_rate_hz: Samples per second, a whole multiple of `rate_hz`; 0, which `rate_hz=0` needs,
      leaves sound out.
    path: A file; a folder (its videos in the order of their names, or if there is none its images);
      a glob pattern; several of these between commas, in that order: one stream, file after file;
      or `NAME:SPLIT:FOLDER`, the clips of a data set (`streams.labelled_clips`).
    image_sequences: Whether images of one folder whose names differ in nothing but numbers are one
      recording, in natural order, where the folder or a pattern names them; False: each image is
      a recording of its own, of one tick.
    image_rate_hz: Images per second of such a recording, which has no times of its own; 0: one a
      tick, and 25 where `rate_hz` is 0.
    height: Rows of the image.
    width: Columns of the image.
    crop: `"centre"` keeps the aspect ratio and cuts the longer side; `"squash"` keeps all.
    loops: Passes over the files; -1 is endless.
    on_damage: `"stop"` ends with an error at the first damage; `"skip"` continues after it, counts it
      (`damage` of the iterator) and warns.
    video_track: Index of the video track, from 0; -1 is the one FFmpeg ranks best.
    audio_track: Index of the audio track, likewise.
    audio_offset_s: Added to the times of the sound, for recordings that are not in step.
    max_gap_s: Longest time that an image is repeated; a larger jump of the file's clock is removed, and
      stops the stream with `on_damage="stop"`.
  """

  path: str = ""
  height: int = 64
  width: int = 64
  crop: str = "centre"
  loops: int = 1
  on_damage: str = "stop"
  video_track: int = -1
  audio_track: int = -1
  audio_offset_s: float = 0.0
  max_gap_s: float = 60.0
  image_sequences: bool = True
  image_rate_hz: float = 0.0

  def check_rates(self) -> None:
    """Checks the rates; raises ValueError."""
    if self.rate_hz:
      super().check_rates()
    elif self.audio_rate_hz:
      raise ValueError(
        f"video: rate_hz=0 gives each image of the file as a tick, which has no fixed number of "
        f"samples; set audio_rate_hz=0 (it is {self.audio_rate_hz}), or a rate_hz."
      )

  def validate(self) -> None:
    """Checks the fields, but not that the files are there; raises ValueError."""
    super().validate()
    for name in ("height", "width"):
      if getattr(self, name) < 1:
        raise ValueError(f"video: {name}={getattr(self, name)} pixels; use at least 1.")
    for name, valid in (("crop", CROPS), ("on_damage", ON_DAMAGE)):
      if getattr(self, name) not in valid:
        raise ValueError(f"video: {name}={getattr(self, name)!r}; use one of {valid}.")
    if self.loops < 1 and self.loops != -1:
      raise ValueError(f"video: loops={self.loops}; use at least 1, or -1 for endless.")
    for name in ("video_track", "audio_track"):
      if getattr(self, name) < -1:
        raise ValueError(f"video: {name}={getattr(self, name)}; use 0, 1, ... or -1 for the best.")
    if self.image_rate_hz:
      exact_rate(self.image_rate_hz)
    if self.max_gap_s <= 0:
      raise ValueError(f"video: max_gap_s={self.max_gap_s}; use a positive number of seconds.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick; sound is there, if only as not valid, for silent files too."""
  known = {"pixels": pixels_spec(config, config.height, config.width)}
  return known | ({"audio": audio_spec(config)} if config.audio_rate_hz else {})


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row: the files row, row + num_rows, ... of the playlist.

  Of a robot's recordings (`streams.bags`, `streams.lerobot`) these are the images of its first camera;
  an address `NAME:SPLIT:FOLDER` names the clips of a data set (`streams.labelled_clips`).

  Raises:
    FileNotFoundError: A file is not there.
    ValueError: There are fewer files than rows.
  """
  if clip_sets.split_address(config.path):
    from perceiver_stream.streams import labelled_clips  # imports this module

    return labelled_clips.open_row(labelled_clips.from_video(config), row, num_rows)
  if bags.is_bag(config.path):
    return bags.open_row(bags.first_camera(config), row, num_rows)
  if lerobot.is_lerobot(config.path):
    return lerobot.open_row(lerobot.first_camera(config), row, num_rows)
  found = find_recordings(config.path, config.image_sequences)
  if len(found) < num_rows:
    raise ValueError(
      f"video: {num_rows} rows need at least as many files, but path={config.path!r} has "
      f"{len(found)}; use fewer rows, more files, or cut the file."
    )
  return VideoStream(config, found[row::num_rows])


def picture_by_picture(path: str, rate_hz: float = 0.0, **fields: Any) -> Config:
  """Returns the config of a silent stream in which each image of a recording is a tick.

  Args:
    path: Of one recording.
    rate_hz: If not 0, of numbered images: how many are a second; of a video: ticks per second instead
      of its images.
    **fields: Other fields of `Config`.

  Raises:
    ValueError: There are several recordings.
  """
  is_images = isinstance(one_recording(path), ImageFiles)
  rates = {"image_rate_hz": rate_hz, "rate_hz": 0.0} if is_images else {"rate_hz": rate_hz}
  return Config(path=path, audio_rate_hz=0, **rates, **fields)


class VideoStream(grain.IterDataset):
  """The ticks of files, one after the other."""

  def __init__(self, config: Config, files: tuple[Any, ...]):
    super().__init__()
    self.config, self.files = config, files

  def __iter__(self) -> "VideoIterator":
    return VideoIterator(self.config, self.files)


class VideoIterator(grain.DatasetIterator):
  """Holds the file being read open."""

  def __init__(self, config: Config, files: tuple[Any, ...]):
    super().__init__()
    self._config, self._files = config, files
    self._rate = _rate_of(config)
    self._recording: Recording | None = None
    self._ticks_of_pass = 0
    self._state: dict[str, Any] = {"loop": 0, "file": 0, "tick": 0, "count": 0, "size": 0}
    if self._rate is None:
      self._state["start_us"] = 0  # of the file, on the stream's clock
    self._state |= {"shown": Shown().to_dict(), "sound": Heard().to_dict()}
    self._state |= {"damage": NO_DAMAGE, "file_damage": NO_DAMAGE}

  @property
  def damage(self) -> Damage:
    """Losses so far, over all files."""
    here = Damage(**self._state["file_damage"])
    here = self._recording.ledger.damage if self._recording else here
    return Damage(**self._state["damage"]) + here

  def __next__(self) -> dict[str, Any]:
    self._assert_not_closed()
    state, config = self._state, self._config
    while not is_over(state, config):
      values = self._read()
      if values is None:
        self._next_file()
        continue
      assert self._recording is not None
      tick = make_tick(values, state["tick"] == 0, self._time_s(self._recording))
      state |= {"tick": state["tick"] + 1, "count": state["count"] + 1}
      state |= {"size": self._recording.size} | self._recording.place()
      self._ticks_of_pass += 1
      return tick
    self._drop()
    raise StopIteration

  def _time_s(self, recording: "Recording") -> Fraction:
    """Returns the time of the tick just read, on the stream's clock."""
    if self._rate is not None:
      return self._state["count"] / self._rate
    return Fraction(self._state["start_us"], 10**6) + recording.pictures.time_s()

  def _read(self) -> "dict[str, tuple[np.ndarray, bool]] | None":
    """Returns the next tick's values; None where the file is over or cannot be read."""
    if self._recording is None:
      try:
        self._recording = self._open(self._files[self._state["file"]])
      except DamagedError as error:
        if self._config.on_damage == "stop" or self._state["tick"]:
          raise
        self._leave_out(error)
        return None
    return self._recording.read(self._state["tick"])

  def _open(self, source: Any) -> "Recording":
    ledger = Ledger(str(source), self._config.on_damage)
    return Recording(source, self._config, ledger, self._state)

  def _next_file(self) -> None:
    state, recording = self._state, self._recording
    if recording is not None:
      try:
        recording.finish()
      except DamagedError as error:  # it has no image
        if self._config.on_damage == "stop":
          raise
        self._leave_out(error)
      if self._rate is None and state["tick"]:
        state["start_us"] += round(recording.pictures.end_s() * 10**6)
      self._add(recording.ledger.damage)
      self._drop()
    state |= {"tick": 0, "size": 0, "file": state["file"] + 1}
    state |= {"shown": Shown().to_dict(), "sound": Heard().to_dict(), "file_damage": NO_DAMAGE}
    if state["file"] == len(self._files):
      if not self._ticks_of_pass and not state["count"]:
        raise DamagedError(
          f"video: not one of the {len(self._files)} files of path={self._config.path!r} could be "
          f"read; the warnings before say why."
        )
      state |= {"file": 0, "loop": state["loop"] + 1}

  def _leave_out(self, error: DamagedError) -> None:
    logger.warning("%s Continuing without it.", error)
    self._add(Damage(files=1))

  def _add(self, damage: Damage) -> None:
    self._state["damage"] = dataclasses.asdict(Damage(**self._state["damage"]) + damage)

  def _drop(self) -> None:
    if self._recording is not None:
      self._recording.close()
      self._recording = None

  def get_state(self) -> dict[str, Any]:
    """Returns the position of the next tick: the file, the tick in it, and the image shown last."""
    return dict(self._state)

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a tick; the file is opened at the next read.

    Raises:
      ValueError: The state is of another stream.
    """
    check_state("video stream", state, self._state)
    if not 0 <= state["file"] < len(self._files):
      raise ValueError(
        f"video stream: the state to restore is at file {state['file']} of the playlist, which has "
        f"{len(self._files)} files; restore with the same path."
      )
    self._drop()
    self._state = dict(state)

  def close(self) -> None:
    """Closes the file."""
    super().close()
    self._drop()


def _size_of(source: Source) -> int:
  """Returns the bytes of a file, or the number of images."""
  if isinstance(source, ImageFiles):
    return len(source.files)
  return user_path(source).stat().st_size if user_path(source).exists() else 0


def _rate_of(config: Config) -> Fraction | None:
  return exact_rate(config.rate_hz) if config.rate_hz else None


class Recording:
  """One file, or images that are one recording: images and sound on one clock."""

  def __init__(self, source: Source, config: Config, ledger: Ledger, state: Mapping[str, Any]):
    self.ledger, self.size = ledger, _size_of(source)
    self._path, self._config = str(source), config
    if state["tick"] and state["size"] != self.size:
      unit = "bytes" if isinstance(source, str) else "images"
      raise DamagedError(
        f"{source} has {self.size} {unit}, and had {state['size']} when the state to restore was "
        f"saved; restore with the same files."
      )
    self.pictures = self._open_pictures(source, config, ledger)
    self._sound: Sound | None = None
    try:
      if state["tick"]:
        self.pictures.find(Shown.from_dict(state["shown"]), state["tick"] - 1)
      else:
        self.pictures.start()
      if config.audio_rate_hz:
        self._samples = samples_per_tick(config.rate_hz, config.audio_rate_hz)
      if config.audio_rate_hz and isinstance(source, str):
        self._sound = self._open_sound(source, config, ledger)
        self._sound.was_heard |= bool(state["tick"])
        if state["tick"] > 1:
          heard = Heard.from_dict(state["sound"])
          self._sound.find(heard, (state["tick"] - 2) * self._samples, self._samples)
      if state["tick"]:
        ledger.damage = Damage(**state["file_damage"])
    except BaseException:
      self.close()
      raise

  def _open_pictures(self, source: Source, config: Config, ledger: Ledger) -> Any:
    if isinstance(source, str):
      return Pictures(source, config, _rate_of(config), ledger)
    return ImageSequence(source, config, _rate_of(config), ledger)

  def _open_sound(self, source: str, config: Config, ledger: Ledger) -> Sound:
    return Sound(source, config, self.pictures.origin_s, ledger)

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and their validity at a tick; None if the file is over by then."""
    if not self.pictures.advance(tick):
      return None
    values = {"pixels": (self.pictures.pixels(), self.pictures.is_true(tick))}
    if self._sound is not None:
      samples, valid = self._sound.read((tick - 1) * self._samples, self._samples)
      values["audio"] = (samples, valid and not self.pictures.jumped)
    elif self._config.audio_rate_hz:
      values["audio"] = (np.zeros(self._samples, np.float32), False)
    return values

  def place(self) -> dict[str, Any]:
    """Returns the state from which to resume after the tick read last."""
    heard = self._sound.heard() if self._sound is not None else Heard()
    damage = dataclasses.asdict(self.ledger.damage)
    shown = self.pictures.shown()
    return {"shown": shown.to_dict(), "sound": heard.to_dict(), "file_damage": damage}

  def finish(self) -> None:
    """Books losses, and warns of them and of omitted data; call at the end of the file."""
    self.pictures.finish()
    self.ledger.close()
    if self._sound is None or self.pictures.jumped:
      return
    start_s = self.pictures.origin_s
    extent = Extent(start_s, start_s + self.pictures.end_s())
    warn_of_left_out(self._path, self._config, extent)
    if self._sound.was_silent and not self._sound.was_heard:
      logger.warning("%s: the mean of its sound's channels is zero throughout.", self._path)

  def close(self) -> None:
    """Closes the file."""
    self.pictures.close()
    if self._sound is not None:
      self._sound.close()
