"""Parts of media files: images and sound from a time on, found by seeking; files with sound alone."""

import itertools
from fractions import Fraction
from typing import Any

import av.error
import numpy as np

from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.key_packets import Key, Shown, marked
from perceiver_stream.streams.pictures import Pictures
from perceiver_stream.streams.sound import Sound
from perceiver_stream.streams.sound_extent import sound_extent

SEEK_S = 10.0  # a part that begins later is sought; the decoder runs up to an earlier one
_BACK_S = 2  # how far before a part to seek: transport streams are not cut at key packets
_WARM_S = 1  # of sound before a part, on which the decoder and the resampler warm up


class PartPictures(Pictures):
  """The images of one file from a tick on. Ticks count from the file's first image."""

  def __init__(self, path: str, config: Any, rate: Fraction, ledger: Ledger, first: int):
    self._first, self._is_far = first, first / rate > SEEK_S
    super().__init__(path, config, rate, ledger)

  def start(self) -> None:
    """Starts at the key frame before the first tick, or, where none is found, of the file."""
    super().start()
    if not self._is_far or self._is_avi or self._next is None:
      return
    if not self._start_near(self._due(self._first)):
      self.close()
      self._open()
      super().start()

  def _start_near(self, due: int) -> bool:
    """Starts at the key frame before a time; returns False if it is not found."""
    origin, self._ledger.tried = self._origin, 0
    try:
      target = max(self._track.start_time or 0, due - round(_BACK_S / self._base))
      self._container.seek(target, stream=self._track, backward=True)
      pictures = self._decoded(marked(self._packets()))
      # Images shown before the key frame may depend on packets that were not decoded.
      self._start(itertools.dropwhile(lambda p: not isinstance(p.frame.opaque, Key), pictures))
      wrong = self._ledger.tried or self._disordered
    except av.error.FFmpegError:
      return False
    finally:
      self._ledger.tried = None
    self._origin = origin
    return not wrong and self._next is not None and self._next.time <= due


class PartSound(Sound):
  """The sound of one file from a time on; samples count from the file's first image."""

  was_heard = was_silent = False

  def __init__(self, path: str, config: Any, origin_s: Fraction, ledger: Ledger, first_s: Fraction):
    self._first_s = first_s
    super().__init__(path, config, origin_s, ledger)

  def _open(self) -> None:
    super()._open()
    if self._track is None or self._first_s <= SEEK_S:
      return
    time_s = self._zero_s + self._first_s - _WARM_S
    try:
      place = int(time_s / Fraction(self._track.time_base))
      self._container.seek(place, stream=self._track, backward=True)
    except av.error.FFmpegError:
      self._container.close()
      super()._open()
      return
    self._warm_up()

  def _warm_up(self) -> None:
    """Decodes up to just before the part; errors of packets without those before are no damage."""
    kept = self._ledger.tried, self.was_heard, self.was_silent
    self._ledger.tried = 0
    try:
      self.read(int((self._first_s - Fraction(_WARM_S, 2)) * self._rate), 1)
    finally:
      self._ledger.tried, self.was_heard, self.was_silent = kept


class NoPictures:
  """Stands for the images of a file with sound alone: none is valid, and ticks last as long as it.

  Attributes:
    origin_s: Time of the first sample on the file's clock, seconds.
    jumped: False.
  """

  jumped = False

  def __init__(self, path: str, config: Any, rate: Fraction):
    extent = sound_extent(path, config.audio_track, Fraction(0))
    if extent is None:
      raise DamagedError(f"{path} has no sound; leave it out, or get the file again.")
    self.origin_s, self._length_s = extent.start_s, extent.end_s - extent.start_s
    self._rate = rate
    self._black = np.zeros((config.height, config.width, 3), np.uint8)
    self._black.flags.writeable = False

  def start(self) -> None:
    """Does nothing."""

  def find(self, shown: Shown, tick: int) -> None:
    """Does nothing: there is no image to return to."""

  def advance(self, tick: int) -> bool:
    """Returns False if the sound has ended before a tick."""
    return tick / self._rate <= self._length_s

  def pixels(self) -> np.ndarray:
    """Returns zeros, uint8 `[H, W, 3]`."""
    return self._black

  def is_true(self, tick: int) -> bool:
    """Returns False."""
    del tick
    return False

  def shown(self) -> Shown:
    """Returns the argument of `find`."""
    return Shown()

  def end_s(self) -> Fraction:
    """Returns the length of the sound."""
    return self._length_s

  def finish(self) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing: the file is not open."""
