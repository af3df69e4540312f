"""A camera with a microphone: a second live input, whose sound is put on the clock of the images.

Each input states times on a clock of its own, and the two run apart. What they have in common is
this machine's clock at which frames arrive: the smallest delay from stated to arrival is that of a
frame that waited for nothing. Test sources of FFmpeg (`lavfi:`) need none of this: both start at 0.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error

from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.frame_rate import exact
from perceiver_stream.streams.live_sources import Address, LiveError, open_live, reason_of
from perceiver_stream.streams.media import best_track, decode_packet, live_packets

logger = logging.getLogger(__name__)

WINDOW_S = 10.0  # over which the smallest delay is looked for
APART_S = 0.05  # clocks are brought together again where they are further apart
_MOST_FRAMES = 256  # that wait for an image: some seconds of sound
_LOOK_S = 0.1  # waiting ends so long after the stream was closed, at the latest
_STOP_S = 1.0  # for the thread to end; a read of a device or of a network may take longer


class Offset:
  """The offset from the times that an input states to this machine's clock, s.

  It stays as it is until the smallest delay of a whole window differs by more than `APART_S`.
  """

  def __init__(self) -> None:
    self.value: float | None = None  # before the first frame
    self._smallest, self._start = float("inf"), 0.0

  def note(self, stated_s: float, arrival_s: float) -> None:
    """Takes the times of a frame."""
    delay = arrival_s - stated_s
    if self.value is None:
      self.value, self._start = delay, arrival_s
    self._smallest = min(self._smallest, delay)
    if arrival_s - self._start >= WINDOW_S:
      if abs(self._smallest - self.value) > APART_S:
        self.value = self._smallest
      self._smallest, self._start = float("inf"), arrival_s


class Microphone:
  """Reads sound in a thread of its own, while a camera is read.

  Attributes:
    is_over: Whether nothing more comes.
  """

  def __init__(self, address: Address, config: Any, is_stated: bool, closed: threading.Event):
    """Opens it and starts the thread.

    Args:
      address: Of the sound.
      config: A `streams.live.Config`.
      is_stated: Whether its times and those of the images are on one clock.
      closed: Set where the stream is closed; ends waiting in `take`.

    Raises:
      LiveError: It cannot be opened, or has no sound.
    """
    self._address, self._config, self._is_stated = address, config, is_stated
    self._ledger, self._offset, self.is_over = Ledger(address.name, "skip"), Offset(), False
    self._frames: queue.Queue[av.AudioFrame | None] = queue.Queue(_MOST_FRAMES)
    self._heard_s = Fraction(-1)  # end of the newest frame taken, on its own clock
    self._stop, self._closed = threading.Event(), closed
    container = open_live(address, config.timeout_s)
    track = best_track(container, "audio")
    if track is None:
      container.close()
      raise LiveError(f"live: {address.name} has no sound to decode.")
    name = f"live {address.name}"
    self._thread = threading.Thread(
      target=self._run, args=(container, track), name=name, daemon=True
    )
    self._thread.start()

  def _run(self, container: Any, track: Any) -> None:
    try:
      with container:
        for packet in live_packets(container, [track], self._stop):
          data = packet if packet.size else None
          for frame in decode_packet(track.codec_context, data, self._ledger, "sound")[0]:
            self._put(frame, track)
      why = "it ended"
    except (av.error.FFmpegError, OSError, ValueError) as error:
      why = reason_of(error, self._config.timeout_s)
    self._warn(why)
    self._put(None, track)

  def _warn(self, why: str) -> None:
    if not self._stop.is_set():
      logger.warning(
        "live: %s: %s. Ticks continue without its sound.", self._address.name, why.rstrip(".")
      )

  def _put(self, frame: av.AudioFrame | None, track: Any) -> None:
    if frame is not None:
      frame.time_base = frame.time_base or track.time_base
      self._offset.note(float(_end_s(frame)), time.monotonic())
    while not self._stop.is_set():
      try:
        self._frames.put(frame, timeout=_LOOK_S)
        return
      except queue.Full:
        continue

  def take(self, until: Fraction, images: Offset) -> Iterator[av.AudioFrame]:
    """Yields the frames that are there, on the clock of the images.

    Args:
      until: Time of the newest image; of one clock, sound up to there is waited for. If none comes
        for `timeout_s`, it is over.
      images: Offset of the images.
    """
    while not self.is_over:
      is_wanted = self._is_stated and self._heard_s < until
      try:
        frame = self._wait() if is_wanted else self._frames.get_nowait()
      except queue.Empty:
        return
      if frame is None:
        self.is_over = True
        return
      self._heard_s = _end_s(frame)
      yield self._placed(frame, images)

  def _wait(self) -> av.AudioFrame | None:
    """Returns the next frame; None at the end, when the stream is closed, or after `timeout_s`."""
    end = time.monotonic() + self._config.timeout_s
    while (left := end - time.monotonic()) > 0 and not self._closed.is_set():
      try:
        return self._frames.get(timeout=min(left, _LOOK_S))
      except queue.Empty:
        continue
    if not self._closed.is_set():
      self._warn(f"no sound came for timeout_s={self._config.timeout_s:g}")
    self._stop.set()
    return None

  def _placed(self, frame: av.AudioFrame, images: Offset) -> av.AudioFrame:
    if not self._is_stated and frame.pts is not None:
      shift_s = (self._offset.value or 0.0) - (images.value or 0.0)
      unit = exact(frame.time_base) or Fraction(1, frame.sample_rate)
      frame.pts += round(Fraction(shift_s) / unit)
    return frame

  def stop(self) -> None:
    """Ends the thread; one that is still blocked in a read after a second is left to end later."""
    self._stop.set()
    self._thread.join(min(_STOP_S, self._config.timeout_s))


def _end_s(frame: av.AudioFrame) -> Fraction:
  start = (frame.pts or 0) * (exact(frame.time_base) or Fraction(0))
  return start + Fraction(frame.samples, frame.sample_rate)
