"""One channel out of many: their mean, which is never louder than the loudest of them."""

import av
import numpy as np


class Mono:
  """Makes frames of one channel, at the same times and rate.

  FFmpeg's own mix to floats adds up channels without dividing by their weights: loud sound in two
  channels is cut off at full scale. Sound of one channel is passed on as it is.
  """

  def __init__(self) -> None:
    self._form: tuple[str, str, int] | None = None
    self._converter = av.AudioResampler(format="flt")

  def __call__(self, frame: av.AudioFrame) -> av.AudioFrame:
    """Returns the mean of a frame's channels."""
    channels = frame.layout.nb_channels
    if channels == 1:
      return frame
    form = frame.format.name, frame.layout.name, frame.sample_rate
    if form != self._form:
      # Packed: PyAV miscounts the planes of planar frames from 8 channels on.
      self._form, self._converter = form, av.AudioResampler(format="flt")
    time, frame.pts = frame.pts, None  # or the converter would fill gaps
    packed = [out.to_ndarray().reshape(-1, channels) for out in self._converter.resample(frame)]
    # Channel by channel in memory: a mean over a short last axis takes four times as long.
    planes = np.ascontiguousarray(np.concatenate(packed).T)
    samples = planes.mean(axis=0, dtype=np.float64).astype(np.float32)
    mixed = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    mixed.sample_rate, mixed.pts = frame.sample_rate, time
    if frame.time_base is not None:
      mixed.time_base = frame.time_base
    return mixed
