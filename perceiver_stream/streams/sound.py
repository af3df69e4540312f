"""The sound of one file as mono samples on the clock of its images."""

import logging
import math
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import av.error
import numpy as np

from perceiver_stream.streams.audio_decoding import AudioDecoder, Restart
from perceiver_stream.streams.audio_resampling import Block
from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.media import choose
from perceiver_stream.streams.opening import open_media

logger = logging.getLogger(__name__)


class Heard(NamedTuple):
  """Identifies the samples read last, to resume after them: plain ints.

  Attributes:
    crc: Their checksum.
    restart: The restart of the decoder before them.
  """

  crc: int = 0
  restart: Restart = Restart()

  def to_dict(self) -> dict[str, int]:
    """Returns the fields by name, those of the restart among them."""
    return {"crc": self.crc} | self.restart._asdict()

  @classmethod
  def from_dict(cls, fields: Mapping[str, int]) -> "Heard":
    """Returns the object from the output of `to_dict`."""
    rest = dict(fields)
    return cls(rest.pop("crc"), Restart(**rest))


class SoundQueue:
  """Blocks of samples that were decoded and not read yet; they do not overlap.

  Attributes:
    end: Position after the last sample; below all positions where there is none.
  """

  def __init__(self) -> None:
    self._blocks: deque[Block] = deque()
    self.end: float = -math.inf

  def append(self, block: Block) -> None:
    """Adds a block that starts at `end` or later."""
    self._blocks.append(block)
    self.end = block[0] + len(block[1])

  def read_whole(self, start: int, count: int) -> tuple[np.ndarray, bool]:
    """Returns float32 `[count]` from sample `start` on, and whether there are blocks for all of it.

    Zeros fill it up. Earlier samples are dropped.
    """
    samples = np.zeros(count, np.float32)
    filled = 0
    while self._blocks:
      position, block = self._blocks[0]
      first, last = max(start, position), min(start + count, position + len(block))
      if first < last:
        samples[first - start : last - start] = block[first - position : last - position]
        filled += last - first
      if position + len(block) > start + count:
        break
      self._blocks.popleft()
    return samples, filled == count

  def read(self, start: int, count: int) -> tuple[np.ndarray, bool]:
    """Returns the samples, and their validity: whole, and not digital zero throughout."""
    samples, is_whole = self.read_whole(start, count)
    return samples, is_whole and bool(samples.any())


class Sound:
  """Reads samples forwards. Sample k covers the time k / rate_hz to (k + 1) / rate_hz.

  Strictly causal: a sample holds nothing from after its end. The resampling filter looks ahead, so
  resampled sound comes late by its reach, 16 samples of the lower rate (1 ms at 16 kHz). Sound
  that has this rate already is not touched.
  """

  def __init__(self, path: str, config: Any, origin_s: Fraction, ledger: Ledger):
    self._rate = config.audio_rate_hz
    self._zero_s = origin_s - Fraction(config.audio_offset_s).limit_denominator(10**6)
    self._ledger, self._path, self._track_number = ledger, path, config.audio_track
    self._open()
    self.was_heard = self.was_silent = False  # whether any tick had sound; zeros and nothing else

  def _open(self) -> None:
    self._container = open_media(self._path)
    try:
      self._track = choose(self._container, "audio", self._track_number, self._path)
    except BaseException:
      self.close()
      raise
    self._decoder = AudioDecoder(
      self._container, self._track, self._rate, self._zero_s, self._ledger
    )
    self._start(self._decoder.blocks() if self._track else iter(()))

  def _start(self, blocks: Iterator[Block]) -> None:
    self._waiting = SoundQueue()
    self._blocks = blocks
    self._crc = self._at = 0

  def close(self) -> None:
    """Closes the file, and releases its samples at once: generators form reference cycles."""
    self._blocks = iter(())
    self._container.close()

  def read(self, start: int, count: int) -> tuple[np.ndarray, bool]:
    """Returns float32 `[count]` in [-1, 1] from sample `start` on, and whether it is valid.

    It is not where the track does not cover all of it (before a late start, after an early end, in
    a gap; zeros fill it up), nor where it is digital zero throughout: no microphone gives that.
    Each call must start where the last one ended, or later.
    """
    while self._waiting.end < start + count:
      block = next(self._blocks, None)
      if block is None:
        break
      if block[0] + len(block[1]) > start:
        self._waiting.append(block)
    samples, is_whole = self._waiting.read_whole(start, count)
    valid = is_whole and bool(samples.any())
    self.was_heard |= valid
    self.was_silent |= is_whole and not valid
    self._crc, self._at = zlib.crc32(samples.data), start
    return samples, valid

  def heard(self) -> Heard:
    """Returns the argument with which `find` resumes after the last samples."""
    before = (r for r in reversed(self._decoder.restarts) if r.position <= self._at)
    return Heard(self._crc, next(before, Restart()))

  def find(self, heard: Heard, start: int, count: int) -> None:
    """Goes to after the samples from `start` on, which were read last; books no damage.

    From the restart before them: by seeking, or by reading packets up to it; or, should that not
    give these very samples, from the start of the file.
    """
    if self._track is None:
      return
    self._ledger.tried = 0
    ways = ("seek", "read", "start") if heard.restart.packets else ("start",)
    for way in ways:
      if way != ways[0]:
        self.close()
        self._open()
      if way == "start" or self._restart(heard.restart, seek=way == "seek"):
        self.read(start, count)
        if self._crc == heard.crc:
          break
    else:
      logger.warning(
        "%s: its sound is not the one heard when the state to restore was saved: another file, or "
        "another version of FFmpeg; the run continues with the present sound.",
        self._path,
      )
    self._ledger.tried = None

  def _restart(self, restart: Restart, seek: bool) -> bool:
    try:
      blocks = self._decoder.blocks_from(restart, seek)
    except (av.error.FFmpegError, OSError, ValueError, LookupError):
      return False
    if blocks is not None:
      self._start(blocks)
    return blocks is not None
