"""Frames of sound of any form as mono samples of one rate, each with its position in time."""

import math
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.frame_rate import exact

TAPS = 16  # half the length of the resampling filter, in samples of the lower rate
# Times of packets shake; a step larger than 20 ms (less than a packet) is a gap or an overlap.
_SHAKE_S = 0.02 + 1e-6  # rounding of floats is no step

Block = tuple[int, np.ndarray]  # the position of the first sample, and samples


class Resampler:
  """Turns frames into mono samples of one rate, with their positions.

  The filter looks ahead, so resampled sound is late by its reach, 16 samples of the lower rate.
  It starts anew where the track has a hole or changes its form.

  Attributes:
    position: Of the next sample.
    starts: Number of times it has started.
    count: Input samples since the last start.
    source_rate: Of the input samples.
  """

  def __init__(
    self, rate: int, zero_s: Fraction, ledger: Ledger, place: int | None = None, skip: int = 0
  ):
    self._rate, self._zero_s, self._ledger = rate, zero_s, ledger
    self._place, self._skip = place, skip
    self._form: tuple[str, str, int] | None = None
    self._start_s = 0.0  # time of the first input sample since the start
    self._resampler: av.AudioResampler | None = None
    self.position = self.starts = self.count = self.source_rate = 0

  def take(self, frame: av.AudioFrame) -> Iterator[Block]:
    """Yields the output for an input frame."""
    if self._skip:
      skip, self._skip = self._skip, max(0, self._skip - frame.samples)
      if skip >= frame.samples:
        return
      frame = _without(frame, skip)
    late_s = self._late_s(frame)
    form = (frame.format.name, frame.layout.name, frame.sample_rate)
    if self._form is not None and late_s > _SHAKE_S:
      end_s = self._end_s()
      where = f"its sound has a hole from {end_s:.2f} to {end_s + late_s:.2f} s"
      self._ledger.book("gaps", where)
    if form != self._form or abs(late_s) > _SHAKE_S:
      yield from self.flush()
      self._start(form, frame)
    self.count += frame.samples
    frame.pts = None  # placed already; the resampler would stumble over gaps
    yield from self._run(frame)

  def flush(self) -> Iterator[Block]:
    """Yields the remaining output."""
    return self._run(None)

  def in_step(self, count: int) -> tuple[int, int]:
    """Returns the position from which a new resampler can take over, from `count` samples on.

    There an output sample coincides with an input sample: the number of samples until it, and its position.
    """
    period = self.source_rate // math.gcd(self.source_rate, self._rate)
    at = -(-count // period) * period
    return at - count, self._first + at * self._rate // self.source_rate

  def _end_s(self) -> float:
    """Returns the time at which the input samples end."""
    return self._start_s + self.count / self.source_rate if self.source_rate else 0.0

  def _late_s(self, frame: av.AudioFrame) -> float:
    """Returns the time from the end of the input samples to the start of a frame."""
    if frame.pts is None or self._place is not None:
      return 0.0
    return frame.pts * float(frame.time_base or 1) - self._end_s()

  def _start(self, form: tuple[str, str, int], frame: av.AudioFrame) -> None:
    time = Fraction(self._end_s())
    if frame.pts is not None:
      time = frame.pts * (exact(frame.time_base) or Fraction(1))
    self._form, self.source_rate = form, form[2]
    self.starts, self.count = self.starts + 1, 0
    self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
    delay = 0
    if self.source_rate != self._rate:
      delay = math.ceil(TAPS * max(1, Fraction(self._rate, self.source_rate)))
    if self._place is not None:
      time = self._zero_s + Fraction(self._place - delay, self._rate)
    self._start_s, self._place = float(time), None
    self.position = self._first = math.ceil((time - self._zero_s) * self._rate) + delay

  def _run(self, frame: av.AudioFrame | None) -> Iterator[Block]:
    if self._resampler is None:
      return
    for out in self._resampler.resample(frame):
      samples = np.minimum(np.maximum(out.to_ndarray().reshape(-1), -1), 1)
      yield self.position, samples
      self.position += samples.size


def channels_of(frame: av.AudioFrame) -> np.ndarray:
  """Returns samples `[channels, n]`, of the frame's own dtype."""
  samples = frame.to_ndarray()
  return samples if frame.format.is_planar else samples.reshape(frame.samples, -1).T


def _without(frame: av.AudioFrame, skip: int) -> av.AudioFrame:
  """Returns a frame without its first samples."""
  samples = channels_of(frame)[:, skip:]
  data = samples if frame.format.is_planar else samples.T.reshape(1, -1)
  name, layout = frame.format.name, frame.layout.name
  rest = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=name, layout=layout)
  rest.sample_rate = frame.sample_rate
  return rest
