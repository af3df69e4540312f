"""The thread that reads a live source, and connects again where it was cut off."""

import logging
import threading
import time
from fractions import Fraction
from typing import Any

import av
import av.error

from perceiver_stream.streams.aspects import Aspects
from perceiver_stream.streams.base import exact_rate
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.frame_rate import exact
from perceiver_stream.streams.live_buffer import Buffer, Pulse
from perceiver_stream.streams.live_iterator import Start
from perceiver_stream.streams.live_microphone import Microphone, Offset
from perceiver_stream.streams.live_sampler import Sampler, Shown
from perceiver_stream.streams.live_sources import Address, LiveError, open_live, reason_of
from perceiver_stream.streams.media import best_track, decode_packet, live_packets
from perceiver_stream.utils.addresses import hidden

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 30.0  # between two attempts to connect


class Lag:
  """Measures the lag of images: the time by which they come later than the quickest ones.

  The images of a source that is read too slowly, or sent too slowly, come later and later. Clocks that
  differ by up to `DRIFT` do not count.
  """

  DRIFT = 2e-4  # of a camera's clock; quartz is within 1e-4

  def __init__(self) -> None:
    self._least, self._newest_s = float("inf"), 0.0

  def note(self, stated_s: float, arrival_s: float) -> float:
    """Takes the times of an image on the source's and this machine's clock; returns its lag, s."""
    delay = arrival_s - stated_s
    self._least = min(delay, self._least + self.DRIFT * (arrival_s - self._newest_s))
    self._newest_s = arrival_s
    return delay - self._least


class Reader:
  """Reads a source into a buffer, in a thread of its own.

  Attributes:
    buffer: Of ticks.
    pulse: Beats at every image, and at attempts to connect.
    images: Number of images decoded.
  """

  def __init__(self, address: Address, config: Any):
    self._address, self._config, self.name = address, config, address.name
    self.buffer = Buffer(config.when_faster, config.every, config.buffer)
    self.pulse, self.images = Pulse(), 0
    self._stop = threading.Event()
    self._ledger = Ledger(address.name, "skip")
    self._sampler: Sampler | None = None
    self._first_s = self._newest_s = 0.0  # arrival of the first and the newest image
    self._thread = threading.Thread(target=self._run, name=f"live {self.name}", daemon=True)

  def start(self) -> Start:
    """Starts the thread, for the only reader."""
    self.pulse.beat()
    self._thread.start()
    return Start()

  def stop(self, reader: int = 0) -> None:
    """Lets the thread end."""
    self._stop.set()
    self.buffer.close("it was closed")

  def join(self) -> None:
    """Waits for the thread; one that a driver does not let go of is left behind."""
    # The garbage collector may call this in the thread itself.
    if self._thread.is_alive() and self._thread is not threading.current_thread():
      self._thread.join(self._config.timeout_s)

  @property
  def limit_s(self) -> float:
    """Seconds without a beat after which the source is given up."""
    return 2 * self._config.timeout_s + 1

  @property
  def rate_hz(self) -> float:
    """Images per second, as they arrived; 0 before the second."""
    passed = self._newest_s - self._first_s
    return (self.images - 1) / passed if passed > 0 else 0.0

  def _run(self) -> None:
    try:
      why = self._connections()
    except Exception as error:
      why = hidden(str(error) or repr(error))
    finally:
      self._sampler = None
    self.buffer.close(why)

  def _connections(self) -> str:
    """Connects, again where it was cut off; returns the reason of the end."""
    failures = 0
    while not self._stop.is_set():
      before = self.images
      try:
        self._read()
        why = "the source ended"
        if not self._config.reconnect_at_end or self._stop.is_set():
          return why
      except (av.error.FFmpegError, OSError, ValueError) as error:
        why = reason_of(error, self._config.timeout_s)
        if not self.images:
          raise
      failures = 1 if self.images > before else failures + 1
      if failures > self._config.reconnects:
        return f"{why}; {self._config.reconnects} attempts to connect again failed"
      if self._wait(why, failures):
        break
    return "it was closed"

  def _wait(self, why: str, failures: int) -> bool:
    """Waits before the next attempt; returns True if the stream was closed."""
    wait_s = min(self._config.reconnect_wait_s * 2 ** (failures - 1), _LONGEST_WAIT_S)
    logger.warning("live: %s was cut off: %s. Connecting in %.3g s.", self.name, why, wait_s)
    end = time.monotonic() + wait_s
    while (left := end - time.monotonic()) > 0:
      self.pulse.beat()
      if self._stop.wait(min(left, self._config.timeout_s)):
        return True
    return self._stop.is_set()

  def _read(self) -> None:
    """Reads one connection to its end."""
    self.pulse.beat()
    with open_live(self._address, self._config.timeout_s) as container:
      self.pulse.beat()
      video = best_track(container, "video")
      if video is None:
        kinds = ", ".join(s.type for s in container.streams) or "nothing"
        raise LiveError(f"live: {self.name} has no video to decode (it has: {kinds}).")
      wants_sound, second = self._config.audio_rate_hz > 0, self._address.sound
      audio = best_track(container, "audio") if wants_sound and second is None else None
      video.thread_type = "NONE"  # FFmpeg's own threads hold frames back
      microphone = None
      if wants_sound and second is not None:
        is_stated = self._address.format == second.format == "lavfi"
        microphone = Microphone(second, self._config, is_stated, self._stop)
      try:
        self._pass_on(container, _Connection(self, video, audio, microphone))
      finally:
        if microphone is not None:
          microphone.stop()

  def _pass_on(self, container: Any, connection: "_Connection") -> None:
    for packet in live_packets(container, connection.tracks, self._stop):
      if not connection.take(packet):
        return
    connection.finish()

  def sampler_for(self, stated: Fraction, is_new: bool) -> Sampler:
    """Returns the sampler of an image of a stated time; another one after a gap."""
    self.pulse.beat()
    now, step = time.monotonic(), 1 / exact_rate(self._config.rate_hz)
    sampler = self._sampler
    if sampler is None:
      self._sampler, self._first_s = Sampler(self._config, Fraction(0), self._ledger), now
    elif is_new or sampler.leaps(stated):
      ticks = round((now - self._newest_s) / float(step))
      start = sampler.next_start() + max(0, ticks - 1) * step
      self._sampler = Sampler(self._config, start, self._ledger)
    assert self._sampler is not None
    self.images, self._newest_s = self.images + 1, now
    return self._sampler


class _Connection:
  """The frames of one open container, on their way into ticks."""

  def __init__(self, reader: Reader, video: Any, audio: Any, microphone: Microphone | None):
    self._reader, self._video, self._audio = reader, video, audio
    self._microphone, self._offset, self._newest_s = microphone, Offset(), Fraction(0)
    self.tracks = [video] if audio is None else [video, audio]
    self._aspects, self._ledger = Aspects(video), Ledger(reader.name, "skip")
    self._sampler: Sampler | None = None
    self._lag = Lag()
    self._has_times, self._is_broken = True, False  # broken: after a loss, up to a key frame

  def take(self, packet: Any) -> bool:
    """Takes a packet; returns False if the stream was closed."""
    track = self._audio if self._audio is not None and packet.stream == self._audio else self._video
    self._decode(track, packet if packet.size else None)
    self._hear()
    return self._give()

  def _hear(self) -> None:
    """Takes what came from the microphone."""
    if self._microphone is not None and self._sampler is not None:
      for frame in self._microphone.take(self._newest_s, self._offset):
        self._sampler.sound(frame)

  def finish(self) -> None:
    """Gives the ticks that are left."""
    if self._sampler is not None:
      self._sampler.finish()
      self._give(is_over=True)

  def _decode(self, track: Any, packet: Any) -> None:
    kind = "packets" if track is self._video else "sound"
    frames, failed = decode_packet(track.codec_context, packet, self._ledger, kind)
    self._is_broken |= failed and track is self._video
    for frame in frames:
      if not frame.time_base:  # of frames that a decoder gives at the end
        frame.time_base = track.time_base
      if track is self._video:
        self._image(frame)
      elif self._has_times and self._sampler is not None:
        self._sampler.sound(frame)

  def _image(self, frame: av.VideoFrame) -> None:
    self._is_broken = frame.is_corrupt or (self._is_broken and not frame.key_frame)
    stated = frame.pts if frame.pts is not None else frame.dts
    if self._sampler is None:
      self._has_times = stated is not None
    if not self._has_times:
      stated_s = _now()
    elif stated is None:
      return
    else:
      stated_s = stated * (exact(frame.time_base) or Fraction(0))
    self._newest_s = stated_s
    now, at = time.monotonic(), time.time()
    self._offset.note(float(stated_s), now)
    sampler = self._reader.sampler_for(stated_s, self._sampler is None)
    if self._sampler is not None and sampler is not self._sampler:
      self._sampler.finish()
      self._give(is_over=True)
      self._lag = Lag()  # the times of the source have leapt
    self._sampler = sampler
    arrived_s = at - self._lag.note(float(stated_s), now)
    try:
      aspect, number = self._aspects.of(frame), self._reader.images
      whole = not self._is_broken
      sampler.image(Shown(stated_s, frame, aspect, number, whole, arrived_s))
    except DamagedError as error:
      self._ledger.book("packets", str(error))

  def _give(self, is_over: bool = False) -> bool:
    if self._sampler is None:
      return True
    has_sound = self._audio is not None and self._has_times
    if self._microphone is not None:
      has_sound = not self._microphone.is_over
    for tick in self._sampler.ready(has_sound, is_over):
      if not self._reader.buffer.put(tick):
        return False
      self._reader.pulse.beat()  # it may have waited for room
    return True


def _now() -> Fraction:
  return Fraction(time.monotonic_ns(), 10**9)
