"""Writing frames and sound to an mp4 file that any player opens."""

import contextlib
import pathlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import Float, UInt8

from perceiver_stream.utils import atomic, moved
from perceiver_stream.utils.paths import file_url, user_path

SOUND_HZ = 48000  # every AAC player supports it
_TIMES_HZ = 90000  # unit of the times of frames that have their own
_NOMINAL_HZ = 25  # of such a video, because encoders need a rate


class VideoWriter:
  """A video being written.

    with VideoWriter("grey.mp4", rate_hz=25, audio_rate_hz=16000) as movie:
      for i in range(5):
        movie.write_frame(np.full((32, 48, 3), 50 * i, np.uint8))
      movie.write_sound(np.zeros(5 * 640, np.float32))

  The file appears under its name when it is complete.
  """

  def __init__(
    self,
    path: str | pathlib.Path,
    *,
    rate_hz: float | int = 0,
    audio_rate_hz: float | int = 0,
    min_side: int = 256,
  ):
    """Starts the file.

    Args:
      path: Of the video; its ending chooses the container.
      rate_hz: Frames per second; 0: each frame comes with its time.
      audio_rate_hz: Samples per second; 0 is a silent video.
      min_side: Smaller frames are enlarged, pixel by pixel, by a whole number.

    Raises:
      ValueError: The ending names no container.
    """
    self.path = user_path(path)
    self.min_side = min_side
    self.path.parent.mkdir(parents=True, exist_ok=True)
    self._files = contextlib.ExitStack()
    part = self._files.enter_context(atomic.replacing(self.path))
    try:
      self._container = av.open(file_url(part), "w")
    except ValueError as error:
      raise ValueError(
        f"{self.path}: its ending names no kind of video ({error}); end it in .mp4, for instance."
      ) from error
    rate = Fraction(rate_hz or _NOMINAL_HZ).limit_denominator(100000)
    # Without reordering a frame lasts exactly until the next, which MP4 cannot state otherwise.
    options = {"crf": "16"} | ({} if rate_hz else {"bf": "0"})
    self._video = self._container.add_stream("libx264", rate=rate, options=options)
    self._video.pix_fmt = "yuv420p"
    self._is_timed = not rate_hz
    if self._is_timed:
      self._video.codec_context.time_base = Fraction(1, _TIMES_HZ)
    self._last, self._step = (
      -1,
      _TIMES_HZ // _NOMINAL_HZ,
    )  # time of the last frame, and its length
    self._sound = None
    self.audio_rate_hz = round(audio_rate_hz)
    self._samples = 0  # of sound so far
    if audio_rate_hz:
      self._sound = self._container.add_stream("aac", rate=SOUND_HZ, layout="mono")
      self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_HZ)

  def write_frame(self, rgb: UInt8[np.ndarray, "H W 3"], time_s: float | int | None = None) -> None:
    """Adds the next frame.

    Args:
      rgb: Of the size of the first.
      time_s: When it is shown, seconds from the start; only if the video has no `rate_hz`. One
        that is not later than the frame before comes 1/90000 s after it.

    Raises:
      ValueError: There is both a time and a rate, or neither.
    """
    if self._is_timed == (time_s is None):
      raise ValueError(
        f"VideoWriter {self.path}: time_s={time_s}; a video has a rate_hz, or a time_s for each "
        f"frame."
      )
    scale = -(-self.min_side // min(rgb.shape[:2]))
    rgb = rgb.repeat(scale, axis=0).repeat(scale, axis=1)
    rgb = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]  # yuv420p needs even sizes
    if not self._video.codec_context.is_open:
      self._video.height, self._video.width = rgb.shape[:2]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    if time_s is not None:
      time = max(round(time_s * _TIMES_HZ), self._last + 1)
      self._step = time - self._last if self._last >= 0 else self._step
      frame.pts, frame.time_base, self._last = time, Fraction(1, _TIMES_HZ), time
    self._container.mux(self._video.encode(frame))

  def write_sound(self, samples: Float[np.ndarray, " S"]) -> None:
    """Adds sound, float in [-1, 1], where the last piece ended; the first starts with the video."""
    if self._sound is None:
      raise ValueError(f"VideoWriter {self.path}: made without sound; give it an audio_rate_hz.")
    data = np.ascontiguousarray(samples, np.float32)[None]
    frame = av.AudioFrame.from_ndarray(data, format="flt", layout="mono")
    frame.sample_rate, frame.pts = self.audio_rate_hz, self._samples
    frame.time_base = Fraction(1, self.audio_rate_hz)
    self._samples += samples.shape[0]
    self._hear(frame)

  def _hear(self, frame: av.AudioFrame | None) -> None:
    """Encodes a piece of sound; None flushes the resampler and ends the sound."""
    if self._sound is not None and self._samples:
      for piece in self._resampler.resample(frame):
        self._container.mux(self._sound.encode(piece))
      if frame is None:
        self._container.mux(self._sound.encode(None))

  def _end_frames(self) -> None:
    """Flushes the encoder; the last frame lasts as long as the one before it."""
    for packet in self._video.encode(None):
      if self._is_timed:
        packet.duration = self._step
      self._container.mux(packet)

  def __enter__(self) -> "VideoWriter":
    return self

  def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
    if kind is None:
      self._hear(None)
      self._end_frames()
    self._container.close()
    self._files.__exit__(kind, *error)


__getattr__ = moved.renamed_names(
  __name__,
  {
    "MovieWriter": "reporting.video_writer.VideoWriter",
  },
)
