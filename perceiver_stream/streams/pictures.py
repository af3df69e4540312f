"""The images of one file, in the order of their times, and the current one on a clock."""

import dataclasses
import functools
import heapq
import itertools
import logging
import math
import zlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from perceiver_stream.streams.aspects import Aspects
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.frame_rate import constant_rate, mean_rate
from perceiver_stream.streams.key_packets import Key, Shown, from_key, marked, seek_key
from perceiver_stream.streams.margins import margins_of
from perceiver_stream.streams.media import choose, decode, packets_of
from perceiver_stream.streams.opening import open_media
from perceiver_stream.streams.picker import Picker
from perceiver_stream.streams.sound_extent import sound_extent
from perceiver_stream.streams.stated_ends import stated_end, states_end_of_tracks
from perceiver_stream.streams.tiles import whole_photo

logger = logging.getLogger(__name__)

# Images buffered to sort unordered times; codecs reorder fewer.
_REORDER = 8
_BACK_S = 1  # largest step back of a time for which the clock is unordered, not reset
_EXACT = ("mov", "matroska", "avi")  # containers that state where their last image ends
_LATE_START_S = Fraction(1, 5)
_TS_BYTES = (188, 192, 204)  # of a packet of a transport stream
_UNKNOWN_HZ = Fraction(25)  # duration of an image in files that do not state it


class Picture(NamedTuple):
  """A decoded frame.

  Attributes:
    time: In units of the track's time base, the file's leaps taken out.
    frame: As decoded.
    after_loss: True if something between the frame before and this one was lost.
    is_broken: True if it is partly concealed or depends on lost frames, until the next key frame.
    aspect: Width over height of its pixels.
  """

  time: int
  frame: av.VideoFrame
  after_loss: bool
  is_broken: bool
  aspect: Fraction = Fraction(1)


class Pictures:
  """The images of one file, forwards: on a clock of `rate` ticks per second, or one tick each.

  Without a rate tick i is image i of the file, at the image's own time.
  Call `start` or `find` before anything else.
  """

  def __init__(self, path: str, config: Any, rate: Fraction | None, ledger: Ledger):
    self._path, self._config, self._rate, self._ledger = path, config, rate, ledger
    self._track: Any = None
    self._open()

  def _open(self) -> None:
    self._container = open_media(self._path)
    try:
      self._set_up()
    except BaseException:
      self.close()
      raise

  def _set_up(self) -> None:
    config = self._config
    self._track = choose(self._container, "video", config.video_track, self._path)
    if self._track is None:
      kinds = ", ".join(s.type for s in self._container.streams) or "nothing"
      raise DamagedError(
        f"{self._path} has no video track to decode (it has: {kinds}); leave it out of path."
      )
    # Decoding in threads of FFmpeg can deadlock with Python's lock when a container is dropped.
    self._track.thread_type = "NONE"
    self._track.codec_context.copy_opaque = True  # for `marked`
    self._base = Fraction(self._track.time_base)
    rate = mean_rate(self._track) or self._rate or _UNKNOWN_HZ
    self._step = max(1, round(1 / (rate * self._base)))
    self._is_constant = constant_rate(self._track) is not None
    self._is_avi = self._container.format.name == "avi"
    self._aspects = Aspects(self._track)
    margins = margins_of(self._container, self._track, self._path)
    self._picker = Picker(config.height, config.width, config.crop, margins)
    self._newest: int | None = None  # time of an image decoded

  def start(self) -> None:
    """Starts at the start of the file."""
    self._start(self._decoded(marked(self._packets())))

  def _packets(self) -> Iterator[Any]:
    return packets_of(self._container, self._track, self._repeat)

  def _start(self, frames: Iterator[Picture]) -> None:
    self.jumped = False  # the file's clock has leapt: its sound can no longer be placed
    self._disordered = False
    self._longest = self._step  # time between two images
    self._held: Picture | None = None
    self._number = -1  # of the image held, in the file
    self._key = Key()  # from which to decode it
    self._newest = None
    self._shift = 0  # of the file's times, to take leaps out
    self._repeated_to = 0  # end of the newest packet that repeats the image before
    self._pixels: np.ndarray | None = None
    self._crc = 0
    self._pictures = self._in_order(frames)
    self._next = next(self._pictures, None)
    self._origin = self._next.time if self._next else 0

  @property
  def origin_s(self) -> Fraction:
    """Time of the first image on the file's clock, seconds."""
    # AVI has no times: FFmpeg counts images as they leave the decoder, which adds its delay.
    return (0 if self._is_avi else self._origin) * self._base

  def close(self) -> None:
    """Closes the file, and releases its images at once: generators form reference cycles."""
    self._pictures = iter(())
    self._held = self._next = self._pixels = None
    self._container.close()

  def advance(self, tick: int) -> bool:
    """Advances to the image of a tick; returns False if the file has ended by then.

    With a clock it is the last one whose time is not after the tick's. Both are rounded to the
    file's time base, for containers that round times (to milliseconds, often) round up as well as
    down.
    """
    if self._rate is None:
      while self._next is not None and self._number < tick:
        self._hold_next()
      return self._number == tick
    due = self._due(tick)
    while self._next is not None and self._next.time <= due:
      self._hold_next()
    if self._held is None:
      return False
    if self._next is not None:
      return True
    length = min(self._held.frame.duration or self._step, self._longest_gap())
    return due < max(self._held.time + length, self._repeated_to)

  def _hold_next(self) -> None:
    assert self._next is not None
    if self._held is not None:
      self._longest = max(self._longest, self._next.time - self._held.time)
    self._held, self._pixels = self._next, None
    self._number += 1
    if self._held.frame.key_frame:
      key = self._held.frame.opaque
      self._key = key if isinstance(key, Key) else Key()
    self._next = next(self._pictures, None)

  def time_s(self) -> Fraction:
    """Returns the time of the current image, from the file's first image on."""
    assert self._held is not None
    return (self._held.time - self._origin) * self._base

  def end_s(self) -> Fraction:
    """Returns the end of the current image as stated in the file, likewise."""
    assert self._held is not None
    return self.time_s() + (self._held.frame.duration or self._step) * self._base

  def pixels(self) -> np.ndarray:
    """Returns the current image, uint8 `[H, W, 3]`, not to be written to."""
    assert self._held is not None
    if self._pixels is None:
      self._pixels = self._picker(self._held.frame, self._held.aspect)
      self._crc = zlib.crc32(self._pixels.data)
    return self._pixels

  def is_true(self, tick: int) -> bool:
    """Returns False if the image is broken, or repeated because the next ones were lost."""
    assert self._held is not None
    if self._held.is_broken:
      return False
    if self._rate is None or self._next is None or not self._next.after_loss:
      return True
    return self._due(tick) < self._held.time + self._step

  def _longest_gap(self) -> int:
    return max(self._step, round(self._config.max_gap_s / self._base))

  def _due(self, tick: int) -> int:
    assert self._rate is not None
    return self._origin + math.floor(tick / self._rate / self._base + Fraction(1, 2))

  def finish(self) -> None:
    """Books the images missing at the end, by the stated length."""
    if self._held is None:
      raise DamagedError(
        f"{self._path}: not one image of its video track ({self._track.codec_context.name}) could "
        f"be decoded; leave it out of path."
      )
    self._warn_of_ends()
    stated = stated_end(self._container, self._track)
    length = max(self._step, self._held.frame.duration or 0)
    end = max(self._held.time + length, self._repeated_to)
    missing = 0 if stated is None else stated - end
    # At a variable rate the last image may be meant to stay.
    is_constant = self._is_avi or 2 * self._longest <= 3 * self._step
    is_exact = is_constant and self._container.format.name.split(",")[0] in _EXACT
    allowed = 3 * self._step // 4 if is_exact else self._longest + self._step
    if missing > allowed and not self.jumped and not self._is_end_of_sound(stated):
      last, lost = self._seconds(self._held.time), max(1, round(missing / self._step))
      self._ledger.book(
        "lost", f"its images end at {last}, {self._seconds(missing)} (about {lost}) early", lost
      )

  def _is_end_of_sound(self, stated: int | None) -> bool:
    """Returns True if the stated end of the whole file may be that of its sound alone."""
    if stated is None or states_end_of_tracks(self._container, self._track):
      return False
    sound = sound_extent(self._path, -1, stated * self._base)
    return sound is not None and sound.end_s > (stated - self._step) * self._base

  def _warn_of_ends(self) -> None:
    """Warns of a late first image and of a truncated last packet; neither need be damage."""
    start = (self._track.start_time or 0) * self._base
    late = self.origin_s - min(start, Fraction(self._container.start_time or 0, av.time_base))
    if self._container.format.name.split(",")[0] in _EXACT:  # their clocks start at 0
      late = max(late, self.origin_s)
    if late > _LATE_START_S or self.origin_s - start >= self._step * self._base:
      logger.warning(
        "%s: its first image comes %.2f s after its start; what lies before is left out.",
        self._path,
        late,
      )
    size = self._container.size or 0
    if self._container.format.name == "mpegts" and all(size % n for n in _TS_BYTES):
      logger.warning("%s ends in the middle of a packet: its end was cut off.", self._path)

  # --- finding a place again --------------------------------------------------------------------

  def shown(self) -> Shown:
    """Returns the argument with which `find` returns to the current image."""
    assert self._held is not None
    self.pixels()
    lost = dataclasses.replace(self._ledger.damage, gaps=0, sound=0)
    replay = self._disordered or self.jumped or bool(lost)
    return Shown(self._origin, self._held.time, self._longest, self._crc, int(replay), self._key)

  def find(self, shown: Shown, tick: int) -> None:
    """Returns to an earlier image.

    From the key packet before it, which is found by seeking or by reading packets up to it; or,
    should it not be there then, from the start of the file.

    Args:
      shown: Of the image.
      tick: At which it was shown.

    Raises:
      DamagedError: The file has another image there, so it has changed.
    """
    has_key = not shown.replay and shown.key.packet >= 0
    ways = ("seek", "read", "start") if has_key else ("start",)
    for way in ways:
      if way != ways[0]:
        self.close()
        self._open()
      if way == "start":
        self.start()
      elif not self._start_at_key(shown, tick, seek=way == "seek"):
        continue
      self.advance(tick)
      if self._held is not None and self.shown().crc == shown.crc:
        return
    raise DamagedError(
      f"{self._path}: the image at tick {tick} is not the one that was there when the state "
      f"to restore was saved; restore with the same file, height, width and crop."
    )

  def _start_at_key(self, shown: Shown, tick: int, seek: bool) -> bool:
    """Starts just before an image, at the key packet before it; returns False if it is not so."""
    self._ledger.tried = 0
    try:
      find = functools.partial(seek_key, self._container, self._track) if seek else from_key
      packets = find(self._packets(), shown.key)
      if packets is None:
        return False
      pictures = self._decoded(marked(packets, shown.key.packet))
      # Images shown before the key frame may depend on packets that were not decoded.
      self._start(itertools.dropwhile(lambda p: p.frame.opaque != shown.key, pictures))
      while self._next is not None and self._next.time < shown.time:
        self._next = next(self._pictures, None)
      wrong = self._ledger.tried or self._disordered
    except av.error.FFmpegError:
      return False
    finally:
      self._ledger.tried = None
    if wrong or self._next is None or self._next.time != shown.time:
      return False
    self._origin, self._longest, self._key = shown.origin, shown.longest, shown.key
    self._number = tick - 1
    return True

  # --- decoding ---------------------------------------------------------------------------------

  def _in_order(self, frames: Iterator[Picture]) -> Iterator[Picture]:
    """Yields images with their times in order.

    The decoder gives images in the order of presentation. Files whose times contradict it carry
    times of decoding (they exist in the wild): the times are sorted.
    """
    waiting: deque[Picture] = deque()
    times: list[int] = []
    last: int | None = None
    end: int | None = None
    for picture in itertools.chain(frames, [None] * _REORDER):
      if picture is not None:
        waiting.append(picture)
        heapq.heappush(times, picture.time)
      if not waiting or (picture is not None and len(waiting) <= _REORDER):
        continue
      picture = waiting.popleft()._replace(time=heapq.heappop(times))
      if last is not None and picture.time < last:
        self._ledger.book("late", f"the image of {self._seconds(picture.time)} comes too late")
        continue
      if picture.is_broken:
        self._ledger.book("broken", f"the image at {self._seconds(picture.time)} is broken")
      if end is not None and not picture.after_loss:
        self._book_hole(max(end, self._repeated_to), picture.time)
      last, length = picture.time, picture.frame.duration
      end = last + length if length and not self._is_avi else None  # AVI has no times
      yield picture

  def _book_hole(self, end: int, time: int) -> None:
    """Books a hole between the end of an image and the next, if the file states a rate."""
    if self._is_constant and time - end > self._step // 2:
      where = f"its images have a hole from {self._seconds(end)} to {self._seconds(time)}"
      self._ledger.book("gaps", where)

  def _decoded(self, packets: Iterator[Any]) -> Iterator[Picture]:
    """Yields images in the decoder's order, without jumps of the file's clock."""
    photo = whole_photo(self._container, self._track, self._path)
    if photo is not None:
      yield Picture(0, photo, False, False)
      return
    is_broken, aspects = False, self._aspects
    frames = decode(aspects.watch(packets), self._track.codec_context, self._ledger, "packets")
    for frame, after_loss in frames:
      time = self._placed(frame.pts if frame.pts is not None else frame.dts)
      self._disordered |= self._newest is not None and time <= self._newest
      self._newest = time if self._newest is None else max(self._newest, time)
      is_broken = frame.is_corrupt or (not frame.key_frame and (is_broken or after_loss))
      yield Picture(time, frame, after_loss, is_broken, aspects.of(frame))

  def _placed(self, stated: int | None) -> int:
    """Returns the time of the next image, if the file states one, without jumps."""
    if self._newest is None:
      return stated or 0
    expected = max(self._newest + self._step, self._repeated_to)
    time = expected if stated is None else stated + self._shift
    if self._is_near(time):
      return time
    leap = (
      f"its clock leaps from {self._seconds(self._newest)} to {self._seconds(time)}, by damage, an "
      f"edit or a pause longer than max_gap_s={self._config.max_gap_s}; taken out, it leaves no place "
      f"for the sound from there on"
    )
    self._ledger.book("jumps", leap)
    self._shift, self.jumped = self._shift + expected - time, True
    return expected

  def _is_near(self, time: int) -> bool:
    """Returns True if a time can follow the decoded ones without a jump of the clock."""
    assert self._newest is not None
    if time < self._newest - round(_BACK_S / self._base):
      return False
    # Without a clock nothing is held through a pause, however long.
    ahead = max(self._newest, self._repeated_to) + self._longest_gap()
    return self._rate is None or time <= ahead

  def _repeat(self, packet: Any) -> None:
    """Notes an empty packet, which means: the image before is repeated."""
    time = packet.pts if packet.pts is not None else packet.dts
    if self._newest is None or not self._is_near(time + self._shift):
      return
    end = time + self._shift + (packet.duration or self._step)
    self._repeated_to = max(self._repeated_to, end)

  def _seconds(self, time: int) -> str:
    return f"{float(time * self._base):.2f} s"
