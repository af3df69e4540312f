"""Writing pictures and sound to an mp4 file that any player opens."""

import contextlib
import pathlib
from fractions import Fraction
from types import TracebackType

import av
import numpy as np
from jaxtyping import Float, UInt8

from perceiver_stream.utils import atomic

SOUND_HZ = 48000  # every AAC player knows it


class MovieWriter:
  """A movie being written; it appears under its name when complete.

  with MovieWriter("grey.mp4", rate_hz=25, audio_rate_hz=16000) as movie:
    for i in range(5):
      movie.picture(np.full((32, 48, 3), 50 * i, np.uint8))
    movie.sound(np.zeros(5 * 640, np.float32))
  """

  def __init__(
    self,
    path: str | pathlib.Path,
    *,
    rate_hz: float | int,
    audio_rate_hz: float | int = 0,
    min_side: int = 256,
  ):
    """Starts the file.

    Args:
      path: Of the movie; its ending chooses the container.
      rate_hz: Pictures per second.
      audio_rate_hz: Samples per second; 0 is a silent movie.
      min_side: Smaller pictures are enlarged, pixel by pixel, by a whole number.

    Raises:
      ValueError: The ending names no container.
    """
    self.path = pathlib.Path(path)
    self.min_side = min_side
    self.path.parent.mkdir(parents=True, exist_ok=True)
    self._files = contextlib.ExitStack()
    part = self._files.enter_context(atomic.replacing(self.path))
    try:
      self._container = av.open(str(part), "w")
    except ValueError as error:
      raise ValueError(
        f"{self.path}: its ending names no kind of movie ({error}); end it in .mp4, for instance."
      ) from error
    rate = Fraction(rate_hz).limit_denominator(100000)
    self._video = self._container.add_stream("libx264", rate=rate, options={"crf": "16"})
    self._video.pix_fmt = "yuv420p"
    self._sound = None
    self.audio_rate_hz = round(audio_rate_hz)
    self._samples = 0  # of sound so far
    if audio_rate_hz:
      self._sound = self._container.add_stream("aac", rate=SOUND_HZ, layout="mono")
      self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_HZ)

  def picture(self, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
    """Adds the next picture."""
    scale = -(-self.min_side // min(rgb.shape[:2]))
    rgb = rgb.repeat(scale, axis=0).repeat(scale, axis=1)
    rgb = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]  # yuv420p needs even sizes
    if not self._video.codec_context.is_open:
      self._video.height, self._video.width = rgb.shape[:2]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    self._container.mux(self._video.encode(frame))

  def sound(self, samples: Float[np.ndarray, " S"]) -> None:
    """Adds sound, float in [-1, 1], where the last piece ended; the first starts with the movie."""
    if self._sound is None:
      raise ValueError(f"MovieWriter {self.path}: made without sound; give it an audio_rate_hz.")
    data = np.ascontiguousarray(samples, np.float32)[None]
    frame = av.AudioFrame.from_ndarray(data, format="flt", layout="mono")
    frame.sample_rate, frame.pts = self.audio_rate_hz, self._samples
    frame.time_base = Fraction(1, self.audio_rate_hz)
    self._samples += samples.shape[0]
    self._hear(frame)

  def _hear(self, frame: av.AudioFrame | None) -> None:
    """Encodes a piece of sound; None is what the resampler still holds, and the end."""
    if self._sound is not None and self._samples:
      for piece in self._resampler.resample(frame):
        self._container.mux(self._sound.encode(piece))
      if frame is None:
        self._container.mux(self._sound.encode(None))

  def __enter__(self) -> "MovieWriter":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if kind is None:
      self._hear(None)
      self._container.mux(self._video.encode(None))
    self._container.close()
    self._files.__exit__(kind, error, trace)
