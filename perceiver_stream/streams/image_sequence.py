"""Numbered images as one recording, with the interface of `pictures.Pictures`."""

import bisect
import logging
import math
import pathlib
import zlib
from fractions import Fraction
from typing import Any

import numpy as np

from perceiver_stream.streams import image_files
from perceiver_stream.streams.base import exact_rate
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.key_packets import Shown
from perceiver_stream.streams.picker import Picker
from perceiver_stream.streams.pictures import Pictures
from perceiver_stream.streams.playlist import ImageFiles
from perceiver_stream.utils.paths import user_path

logger = logging.getLogger(__name__)

ASSUMED_HZ = Fraction(25)  # images have no times, and neither rate of the config is set


class ImageSequence:
  """The images of one recording, forwards: on a clock of `rate` ticks per second, or each a tick.

  Images come `image_rate_hz` a second, or else one a tick. On a clock the image before missing
  numbers is held, and not valid; without one they make no difference but to times.

  Attributes:
    jumped: False: the clock of images does not leap.
    origin_s: Time of the first image.
  """

  jumped = False
  origin_s = Fraction(0)

  def __init__(self, images: ImageFiles, config: Any, rate: Fraction | None, ledger: Ledger):
    self._images, self._config, self._rate, self._ledger = images, config, rate, ledger
    own = exact_rate(config.image_rate_hz) if config.image_rate_hz else None
    self._image_rate = own or rate or ASSUMED_HZ
    self._positions = images.positions()
    self._picker = Picker(config.height, config.width, config.crop)
    self._size: str | None = None  # of the first image decoded
    self._resized = False  # True once one of another size was reported
    self._index = -1  # of the image shown
    self._age = Fraction(0)  # of it, in images
    self._bad: set[int] = set()  # images that cannot be decoded
    self._pixels: np.ndarray | None = None
    self._crc = 0

  def start(self) -> None:
    """Warns of an assumed rate; the first tick shows the first image."""
    if self._rate is None and not self._config.image_rate_hz:
      logger.warning(
        "%s: images have no times; taken as %d a second (image_rate_hz).", self._images, ASSUMED_HZ
      )

  def close(self) -> None:
    """Lets go of the image."""
    self._pixels = None

  def advance(self, tick: int) -> bool:
    """Goes to the image shown at a tick; returns False if the recording is over by then."""
    before = self._index
    if not self._go(tick):
      return False
    if self._rate is not None and before >= 0:
      self._book_missing(before)
    return True

  def _go(self, tick: int) -> bool:
    index, age = tick, Fraction(0)
    if self._rate is not None:
      place = tick * self._image_rate / self._rate
      index = bisect.bisect_right(self._positions, place) - 1
      age = place - self._positions[index]
    if index >= len(self._positions) or (index == len(self._positions) - 1 and age >= 1):
      return False
    if index != self._index:
      self._pixels = None
    self._index, self._age = index, age
    return True

  def _book_missing(self, before: int) -> None:
    here = self._positions[self._index] - self._positions[before]
    missing = math.floor(here) - (self._index - before)
    if missing > 0:
      name = user_path(self._images.files[self._index]).name
      self._ledger.book("gaps", f"its numbers leave out {missing} before {name}", missing)

  def time_s(self) -> Fraction:
    """Returns the time of the image shown."""
    return self._positions[self._index] / self._image_rate

  def end_s(self) -> Fraction:
    """Returns the time at which the image shown ends."""
    return self.time_s() + 1 / self._image_rate

  def is_true(self, tick: int) -> bool:
    """Returns False where the image cannot be decoded, or is held in place of missing ones."""
    del tick
    return self._index not in self._bad and self._age < 1

  def pixels(self) -> np.ndarray:
    """Returns the image shown, or the last one before that can be decoded, uint8 `[H, W, 3]`."""
    if self._pixels is None:
      self._pixels = self._newest()
      self._crc = zlib.crc32(self._pixels.data)
    return self._pixels

  def _newest(self) -> np.ndarray:
    for index in range(self._index, -1, -1):
      if index in self._bad:
        continue
      try:
        return self._load(index)
      except DamagedError as error:
        self._bad.add(index)
        if index == self._index:
          self._ledger.book("packets", f"{error}")
    return np.zeros((self._config.height, self._config.width, 3), np.uint8)

  def _load(self, index: int) -> np.ndarray:
    file = user_path(self._images.files[index])
    if file.suffix.lower() not in image_files.CODECS:
      return self._load_as_video(file)
    frame = image_files.read_frame(file)
    size = f"{frame.width}\u00d7{frame.height}"
    if self._size is not None and size != self._size and not self._resized:
      self._resized = True
      logger.warning(
        "%s: %s is %s, the ones before are %s; all are scaled to one size.",
        self._images,
        file.name,
        size,
        self._size,
      )
    self._size = self._size or size
    return self._picker(frame)

  def _load_as_video(self, file: pathlib.Path) -> np.ndarray:
    """Returns the first image of a file of a kind that FFmpeg opens as it opens videos."""
    try:
      pictures = Pictures(str(file), self._config, None, Ledger(str(file), "stop"))
    except OSError as error:
      raise DamagedError(f"{file} cannot be read: {error}") from error
    try:
      pictures.start()
      if not pictures.advance(0):
        raise DamagedError(f"{file} has no image in it")
      return pictures.pixels()
    finally:
      pictures.close()

  def finish(self) -> None:
    """Does nothing: undecodable images are booked, and no further ones are announced."""

  def shown(self) -> Shown:
    """Returns the argument with which `find` returns to the current image."""
    self.pixels()
    return Shown(time=self._index, crc=self._crc)

  def find(self, shown: Shown, tick: int) -> None:
    """Goes to an image.

    Args:
      shown: Of the image.
      tick: At which it was shown.

    Raises:
      DamagedError: There is another image.
    """
    self._ledger.tried = 0
    try:
      found = self._go(tick) and self.shown()
    finally:
      self._ledger.tried = None
    if found != shown:
      raise DamagedError(
        f"{self._images}: the image at tick {tick} is not the one that was there when the state to "
        f"restore was saved; restore with the same files, height, width and crop."
      )
