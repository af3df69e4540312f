"""Sources of a live page: files at their own pace, live streams, and a browser's camera."""

import abc
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perceiver_stream import streams
from perceiver_stream.serving.camera_frames import decode_jpeg, sound_of
from perceiver_stream.serving.messages import MessageError
from perceiver_stream.streams import live
from perceiver_stream.types import IS_FIRST, ModalitySpec
from perceiver_stream.utils.addresses import hidden

CAPTURED = "captured_s"  # in ticks: seconds on the browser's clock, or at which a live image came
_SENDER = "sender"  # likewise: number of the browser
_NUMBER = ModalitySpec(shape=(), dtype="float64")
WAITS_S = 3600.0  # for a browser that sends nothing


class Source(abc.ABC):
  """Ticks as they come.

  Attributes:
    about: For people.
    takes_camera: True if a browser sends the images.
  """

  about = ""
  takes_camera = False

  @property
  @abc.abstractmethod
  def dropped(self) -> int:
    """Images that came and were not given, because the model was not ready for them."""

  @abc.abstractmethod
  def ticks(self) -> Iterator[Mapping[str, Any]]:
    """Yields the ticks until the source ends or `stop` is called."""

  @abc.abstractmethod
  def stop(self) -> None:
    """Ends `ticks`, also while it waits; from another thread."""


class FileSource(Source):
  """A stream that has all its ticks at once, given at their times.

  A tick that is due while the model computes is dropped for the next one, as of a camera.
  """

  def __init__(self, config: streams.StreamConfig, *, is_paced: bool = True):
    """Opens nothing yet; without pacing every tick is given, as fast as it is taken."""
    self.about = str(getattr(config, "path", type(config).__module__.rpartition(".")[2]))
    self._config, self._is_paced, self._dropped = config, is_paced, 0
    self._stopped = threading.Event()

  @property
  def dropped(self) -> int:
    """Ticks that were due while the model computed."""
    return self._dropped

  def ticks(self) -> Iterator[Mapping[str, Any]]:
    """Yields the ticks; see `Source`."""
    period = 1 / self._config.rate_hz if self._config.rate_hz else 0.04
    with contextlib.closing(iter(streams.open_rows(self._config)[0])) as ticks:
      yield from self._at_their_times(ticks, period)

  def _at_their_times(
    self, ticks: Iterator[Mapping[str, Any]], period: float
  ) -> Iterator[Mapping[str, Any]]:
    due, carries_first = time.monotonic(), False
    for tick in ticks:
      if self._stopped.is_set():
        return
      carries_first |= bool(tick[IS_FIRST])
      late = time.monotonic() - due
      due += period
      if self._is_paced:
        if late > 1.0:  # the program was compiled, or the machine slept: start anew
          due = time.monotonic() + period
        elif late > period:
          self._dropped += 1
          continue
        if self._stopped.wait(max(0.0, -late)):
          return
      yield {**tick, IS_FIRST: np.bool_(carries_first)}
      carries_first = False

  def stop(self) -> None:
    """Ends the ticks; see `Source`."""
    self._stopped.set()


class LiveSource(Source):
  """A camera, an address or standard input; see `streams.live`."""

  def __init__(self, config: live.Config):
    """Opens nothing yet; raises ValueError if it is no live source."""
    self.about = hidden(config.source)
    self._ticks = streams.open_rows(config)[0].__iter__()

  @property
  def dropped(self) -> int:
    """Images that newer ones replaced."""
    return self._ticks.dropped  # type: ignore[attr-defined]

  def ticks(self) -> Iterator[Mapping[str, Any]]:
    """Yields the ticks; see `Source`."""
    try:
      for tick in self._ticks:
        yield {**tick, CAPTURED: np.float64(self._ticks.arrived_s)}  # type: ignore[attr-defined]
    finally:
      self._ticks.close()

  def stop(self) -> None:
    """Ends the ticks; see `Source`."""
    self._ticks.interrupt()  # type: ignore[attr-defined]


class BrowserSource(Source):
  """The camera and microphone of one browser at a time, sent message by message."""

  takes_camera = True

  def __init__(self, specs: Mapping[str, ModalitySpec], rate_hz: float):
    """Makes one.

    Args:
      specs: Of `pixels`, and of `audio` if sound is used.
      rate_hz: Images per second that the browser should send.

    Raises:
      ValueError: There are no pixels.
    """
    if "pixels" not in specs:
      raise ValueError(f"live: a camera gives pixels, but the model takes {sorted(specs)}.")
    self.about, self.rate_hz = "the camera of a browser", rate_hz
    self.size: tuple[int, int] = specs["pixels"].shape[:2]  # type: ignore[assignment]
    self.num_samples = specs["audio"].shape[0] if "audio" in specs else 0
    self._given = {"pixels": specs["pixels"], CAPTURED: _NUMBER, _SENDER: _NUMBER}
    self._given |= {"audio": specs["audio"]} if "audio" in specs else {}
    self._push = live.Push(self._given, rate_hz, timeout_s=WAITS_S)
    self._reading: Any = None
    self._sender: object = None
    self._senders = 0
    self._lock, self._is_stopped = threading.Lock(), False

  @property
  def dropped(self) -> int:
    """Images that newer ones replaced on the server; browsers count their own."""
    return self._push.dropped

  def claim(self, sender: object) -> int:
    """Lets `sender` send, and returns its number for `put`; 0 while another one sends."""
    with self._lock:
      if self._sender not in (None, sender):
        return 0
      if self._sender is None:
        self._sender, self._senders = sender, self._senders + 1
      return self._senders

  def release(self, sender: object) -> None:
    """Lets another one send, if `sender` did."""
    with self._lock:
      if self._sender is sender:
        self._sender = None

  def put(self, number: int, captured_s: float, jpeg: bytes, pcm: np.ndarray | None) -> None:
    """Takes an image and the sound before it. The first tick of a number has `is_first`.

    Args:
      number: As `claim` returned it.
      captured_s: On the clock of the sender.
      jpeg: The image.
      pcm: Sound, int16 `[samples]`; None without.

    Raises:
      MessageError: They cannot be used, or the sender has released the camera.
    """
    image = decode_jpeg(jpeg, self.size)
    if not np.isfinite(captured_s):
      raise MessageError("camera: the time is not finite.")
    sound = None if pcm is None or not self.num_samples else sound_of(pcm, self.num_samples)
    with self._lock:
      if self._sender is None or number != self._senders:
        raise MessageError("camera: this page has released the camera; start it again.")
      try:
        self._put(number, captured_s, image, sound)
      except ValueError as error:  # two within the resolution of the clock
        raise MessageError(str(error)) from error

  def _put(
    self, number: int, captured_s: float, image: np.ndarray, sound: np.ndarray | None
  ) -> None:
    """Adds a tick to the stream; its values have one time, so they stay together."""
    now = time.monotonic()
    self._push.put(CAPTURED, np.float64(captured_s), now)
    self._push.put(_SENDER, np.float64(number), now)
    if sound is not None:
      self._push.put("audio", sound, now)
    self._push.put("pixels", image, now)

  def ticks(self) -> Iterator[Mapping[str, Any]]:
    """Yields the ticks of all senders; see `Source`."""
    newest = 0.0
    while not self._is_stopped:
      with self._lock:
        self._reading = iter(self._push)
      with contextlib.suppress(live.LiveError):  # nothing came for long, or it was stopped
        for tick in self._reading:
          is_first = bool(tick[IS_FIRST]) or float(tick[_SENDER]) != newest
          newest = float(tick[_SENDER])
          yield {**tick, IS_FIRST: np.bool_(is_first)}

  def stop(self) -> None:
    """Ends the ticks; see `Source`."""
    self._is_stopped = True
    self._push.close()
    with self._lock:
      if self._reading is not None:
        self._reading.interrupt()
