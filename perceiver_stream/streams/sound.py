"""The sound of one file as mono samples on the clock of its pictures."""

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from perceiver_stream.streams.media import Ledger, choose, decode, open_media

_TAPS = 16  # half the length of the resampling filter, in samples of the lower rate
# Times of packets shake; a step larger than this (less than a packet) is a gap or an overlap.
_SHAKE_S = Fraction(1, 50)


class Sound:
  """Reads samples forwards. Sample k covers the time k / rate_hz to (k + 1) / rate_hz.

  Strictly causal: a sample holds nothing from after its end. The resampling filter looks ahead, so
  resampled sound comes late by its reach, 16 samples of the lower rate (1 ms at 16 kHz). Sound
  that has this rate already is not touched.
  """

  def __init__(self, path: str, config: Any, origin_s: Fraction, ledger: Ledger):
    self._rate = config.audio_rate_hz
    self._zero_s = origin_s - Fraction(config.audio_offset_s).limit_denominator(10**6)
    self._ledger = ledger
    self._container = open_media(path)
    try:
      self._track = choose(self._container, "audio", config.audio_track, path)
    except BaseException:
      self.close()
      raise
    self._waiting: deque[tuple[int, np.ndarray]] = deque()  # (position, samples), no overlap
    self._blocks = self._placed() if self._track else iter(())
    self.was_heard = self._track is None  # whether any valid sound was read, if there is a track

  def close(self) -> None:
    """Closes the file."""
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
    return samples, valid

  @property
  def _end(self) -> int:
    position, block = self._waiting[-1]
    return position + len(block)

  def _placed(self) -> Iterator[tuple[int, np.ndarray]]:
    """Yields samples with their place, later and later; what overlaps is dropped."""
    end: int | None = None
    for position, samples in self._resampled():
      if end is not None and position < end:
        position, samples = end, samples[end - position :]
      if samples.size:
        end = position + samples.size
        yield position, np.clip(samples, -1, 1)

  def _resampled(self) -> Iterator[tuple[int, np.ndarray]]:
    resampler, form, position = None, None, 0
    expected = Fraction(0)
    for frame, _ in decode(self._container, self._track, self._ledger, "sound"):
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
        form, expected = found, time
        position = math.ceil((time - self._zero_s) * self._rate) + self._delay(frame.sample_rate)
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
