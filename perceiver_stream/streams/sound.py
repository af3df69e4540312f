"""The sound of one file as mono samples on the clock of its pictures."""

import itertools
import math
import zlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from perceiver_stream.streams.media import Ledger, choose, decode
from perceiver_stream.streams.mono import mono
from perceiver_stream.streams.opening import open_media

_TAPS = 16  # half the length of the resampling filter, in samples of the lower rate
# Times of packets shake; a step larger than this (less than a packet) is a gap or an overlap.
_SHAKE_S = Fraction(1, 50)


_WARM_S = Fraction(1, 2)  # decoders and the filter have forgotten how they were started by then
_LONGEST_S = 30  # to decode before a place; else from the start


class Heard(NamedTuple):
  """What identifies the samples read last, to go on after them: plain ints.

  Attributes:
    sound_crc: Their checksum.
    sound_replay: 1: decode the file from its start.
  """

  sound_crc: int = 0
  sound_replay: int = 0


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
    self._start(self._frames() if self._track else iter(()))

  def _frames(self) -> Iterator[Any]:
    decoded = decode(self._container, self._track, self._ledger, "sound")
    yield from mono(frame for frame, _ in decoded)

  def _start(self, frames: Iterator[Any], place: tuple[Fraction, int] | None = None) -> None:
    self._waiting: deque[tuple[int, np.ndarray]] = deque()  # (position, samples), no overlap
    self._starts = 0  # of the resampler: more than one where the track has holes or changes
    self._crc = 0
    self._blocks = self._placed(self._resampled(frames, place))

  def close(self) -> None:
    """Closes the file, and lets go of its samples at once: generators hold what holds them."""
    self._blocks = iter(())
    self._container.close()

  def read(self, start: int, count: int) -> tuple[np.ndarray, bool]:
    """Returns float32 `[count]` in [-1, 1] from sample `start` on, and whether it is valid.

    It is not where the track does not cover all of it (before a late start, after an early end, in
    a gap; zeros fill it up), nor where it is digital zero throughout: no microphone gives that.
    Each call must start where the last one ended, or later.
    """
    samples = np.zeros(count, np.float32)
    filled = 0
    while not self._waiting or self._end < start + count:
      block = next(self._blocks, None)
      if block is None:
        break
      if block[0] + len(block[1]) > start:
        self._waiting.append(block)
    while self._waiting:
      position, block = self._waiting[0]
      first, last = max(start, position), min(start + count, position + len(block))
      if first < last:
        samples[first - start : last - start] = block[first - position : last - position]
        filled += last - first
      if position + len(block) > start + count:
        break
      self._waiting.popleft()
    valid = filled == count and bool(samples.any())
    self.was_heard |= valid
    self.was_silent |= filled == count and not valid
    self._crc = zlib.crc32(samples.data)
    return samples, valid

  def heard(self) -> Heard:
    """Returns what `find` needs to go on after the samples read last."""
    return Heard(self._crc, int(self._starts > 1 or bool(self._ledger.damage)))

  # --- finding a place again --------------------------------------------------------------------

  def find(self, heard: Heard, start: int, count: int) -> None:
    """Goes to after the samples from `start` on: from shortly before them, or the file's start."""
    if self._track is None or heard.sound_replay:
      return
    self._ledger.tried = 0
    try:
      found = self._seek(start) and self.read(start, count) is not None
      found = found and self._crc == heard.sound_crc and not self._ledger.tried
    except av.error.FFmpegError:
      found = False
    finally:
      self._ledger.tried = None
    if not found or self._starts > 1:
      self.close()
      self._open()

  def _seek(self, start: int) -> bool:
    """Goes to a place well before a sample where the resampler, started anew, is in step.

    There the samples of the track before it make a whole number of samples of the stream; those
    are counted in packets, for some containers round times.
    """
    frames = self._frames()
    first, second = next(frames, None), next(frames, None)
    if first is None or second is None or first.pts is None:
      return False
    zero_s, rate = first.pts * Fraction(first.time_base), first.sample_rate
    length = second.samples
    period_s = Fraction(length, rate) * Fraction(length * self._rate, rate).denominator
    due_s = Fraction(start, self._rate) + self._zero_s - _WARM_S - period_s
    if due_s < zero_s + 2 * _WARM_S or period_s > _LONGEST_S:
      return False
    self._container.seek(
      int((due_s - _WARM_S) / Fraction(self._track.time_base)), stream=self._track, backward=True
    )
    for frame in (frames := self._frames()):
      if frame.pts is None or frame.samples != length or frame.sample_rate != rate:
        return False
      time = frame.pts * Fraction(frame.time_base)
      packets = round(((time - zero_s) * rate - first.samples) / length)
      before = first.samples + packets * length
      if abs(Fraction(before, rate) - (time - zero_s)) > _SHAKE_S / 10:
        return False
      if time >= due_s and before * self._rate % rate == 0:
        place = math.ceil((zero_s - self._zero_s) * self._rate) + self._delay(rate)
        place += before * self._rate // rate
        self._start(itertools.chain([frame], frames), (zero_s + Fraction(before, rate), place))
        return True
    return False

  # --- decoding ---------------------------------------------------------------------------------

  @property
  def _end(self) -> int:
    position, block = self._waiting[-1]
    return position + len(block)

  @staticmethod
  def _placed(blocks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields samples with their place, later and later; what overlaps is dropped."""
    end: int | None = None
    for position, samples in blocks:
      if end is not None and position < end:
        position, samples = end, samples[end - position :]
      if samples.size:
        end = position + samples.size
        yield position, np.clip(samples, -1, 1)

  def _resampled(
    self, frames: Iterator[Any], place: tuple[Fraction, int] | None
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields samples with their place; `place` is the time and place of the first, where known."""
    resampler, form, position = None, None, 0
    expected = Fraction(0)
    for frame in frames:
      time = expected if frame.pts is None else frame.pts * Fraction(frame.time_base)
      found = (frame.format.name, frame.layout.name, frame.sample_rate)
      if form is not None and time > expected + _SHAKE_S:
        where = f"its sound has a hole from {float(expected):.2f} to {float(time):.2f} s"
        self._ledger.book("gaps", where)
      if form != found or abs(time - expected) > _SHAKE_S:
        for samples in _run(resampler, None):
          yield position, samples
          position += samples.size
        resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
        form, expected, self._starts = found, time, self._starts + 1
        position = math.ceil((time - self._zero_s) * self._rate) + self._delay(frame.sample_rate)
        if place is not None:
          (expected, position), place = place, None
      expected += Fraction(frame.samples, frame.sample_rate)
      frame.pts = None  # placed above; the resampler would stumble over gaps
      for samples in _run(resampler, frame):
        yield position, samples
        position += samples.size
    for samples in _run(resampler, None):
      yield position, samples
      position += samples.size

  def _delay(self, source_rate: int) -> int:
    """Returns the reach of the filter that resamples from `source_rate`, in samples."""
    return 0 if source_rate == self._rate else math.ceil(_TAPS * max(1, self._rate / source_rate))


def _run(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> list[np.ndarray]:
  """Returns what comes out when a frame goes in; None flushes."""
  if resampler is None:
    return []
  return [out.to_ndarray().reshape(-1) for out in resampler.resample(frame)]
