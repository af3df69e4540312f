"""Ticks of one connection to a live source, made as its images and sound come in."""

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from perceiver_stream.streams.audio_resampling import Block, Resampler
from perceiver_stream.streams.base import exact_rate, samples_per_tick
from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.frame_rate import exact
from perceiver_stream.streams.live_buffer import LiveTick
from perceiver_stream.streams.mono import Mono
from perceiver_stream.streams.picker import Picker
from perceiver_stream.streams.sound import SoundQueue

_BACK_S = 1  # a time further back is a leap of the clock; nearer ones are late images
_SOUND_LATE_S = Fraction(1, 2)  # how long a tick waits for its sound


class Shown(NamedTuple):
  """An image that the clock may show.

  Attributes:
    time: Seconds on the source's clock.
    frame: As decoded.
    aspect: Width of its pixels over their height.
    number: Of those of the source.
    is_whole: Whether nothing that it depends on was lost.
    arrived_s: See `LiveTick`.
  """

  time: Fraction
  frame: av.VideoFrame
  aspect: Fraction
  number: int
  is_whole: bool
  arrived_s: float = math.nan


class Sampler:
  """Makes ticks at `rate_hz` from images and sound.

  Tick i is at the time i / rate_hz after the first image; it has the newest image that is not
  later and the sound since the tick before. It is complete when an image of its time, or a later
  one, and its sound are there; sound that is half a second late is not waited for.
  """

  def __init__(self, config: Any, start: Fraction, ledger: Ledger):
    """Makes one.

    Args:
      config: A `streams.live.Config`.
      start: Time of its first tick on the stream's clock, s.
      ledger: Receives holes of the sound.
    """
    self._rate, self._start, self._ledger = exact_rate(config.rate_hz), start, ledger
    self._picker = Picker(config.height, config.width, config.crop)
    self._longest = Fraction(config.timeout_s)
    self._audio_rate = config.audio_rate_hz
    if self._audio_rate:
      self._samples = samples_per_tick(config.rate_hz, config.audio_rate_hz)
    self._shown: Shown | None = None
    self._pixels: np.ndarray | None = None
    self._origin = Fraction(0)
    self._tick = 0  # that comes next
    self._waiting: deque[tuple[int, np.ndarray, Shown]] = deque()  # for sound
    self._mono, self._queue = Mono(), SoundQueue()
    self._resampler: Resampler | None = None

  def leaps(self, time: Fraction) -> bool:
    """Returns True if a time cannot follow the images so far without a gap."""
    if self._shown is None:
      return False
    return not -_BACK_S <= time - self._shown.time <= self._longest

  def next_start(self) -> Fraction:
    """Returns the time of the next tick on the stream's clock, s."""
    return self._start + self._tick / self._rate

  def image(self, shown: Shown) -> None:
    """Takes an image; raises DamagedError if it cannot be converted."""
    time = shown.time
    if self._shown is None:
      self._origin = time
      if self._audio_rate:
        self._resampler = Resampler(self._audio_rate, time, self._ledger)
    elif time <= self._shown.time:
      return
    # Containers round times up as well as down, but a stranger's time base may be of any size.
    half = min(abs(exact(shown.frame.time_base) or Fraction(0)), 1 / self._rate) / 2
    while self._shown is not None and self._due(self._tick) + half < time:
      self._add()
    self._shown, self._pixels = shown, None
    while self._due(self._tick) <= time + half:
      self._add()

  def sound(self, frame: av.AudioFrame) -> None:
    """Takes a frame of sound; that before the first image is left out."""
    if self._resampler is not None:
      self._keep(self._resampler.take(self._mono(frame)))

  def _keep(self, blocks: Iterator[Block]) -> None:
    for position, samples in blocks:
      overlap = int(self._queue.end - position) if self._queue.end > position else 0
      if overlap < samples.size:
        self._queue.append((position + overlap, samples[overlap:]))

  def finish(self) -> None:
    """Takes the end: the last samples of the sound."""
    if self._resampler is not None:
      self._keep(self._resampler.flush())

  def ready(self, has_sound: bool, is_over: bool = False) -> Iterator[LiveTick]:
    """Yields the ticks that are complete.

    Args:
      has_sound: Whether sound comes at all.
      is_over: Whether nothing more comes.
    """
    while self._waiting:
      tick, pixels, shown = self._waiting[0]
      values: dict[str, tuple[np.ndarray, bool]] = {"pixels": (pixels, shown.is_whole)}
      if self._audio_rate:
        if has_sound and not is_over and not self._may_go(tick):
          return
        values["audio"] = self._queue.read((tick - 1) * self._samples, self._samples)
      self._waiting.popleft()
      time = self._start + tick / self._rate
      yield LiveTick(values, tick == 0, time, shown.number, shown.arrived_s)

  def _may_go(self, tick: int) -> bool:
    """Returns True if the sound of a tick is there, or too late."""
    assert self._shown is not None
    is_late = self._shown.time - self._due(tick) > _SOUND_LATE_S
    return is_late or tick == 0 or self._queue.end >= tick * self._samples

  def _due(self, tick: int) -> Fraction:
    return self._origin + tick / self._rate

  def _add(self) -> None:
    """Adds the next tick, with the image shown."""
    assert self._shown is not None
    if self._pixels is None:
      self._pixels = self._picker(self._shown.frame, self._shown.aspect)
    self._waiting.append((self._tick, self._pixels, self._shown))
    self._tick += 1
