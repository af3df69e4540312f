"""One channel out of many: their mean, which is never louder than the loudest of them."""

from collections.abc import Iterable, Iterator

import av
import numpy as np


def mono(frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
  """Yields the same sound in one channel, at the same times and rate.

  FFmpeg's own mix to floats adds up channels without dividing by their weights: what is loud in two
  channels is cut off at full scale. Sound of one channel is passed on as it is.
  """
  converter, form = av.AudioResampler(format="flt"), None
  for frame in frames:
    channels = frame.layout.nb_channels
    if channels > 1:
      if form != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
        converter = av.AudioResampler(format="flt")  # packed: PyAV miscounts planes from 8 on
      frame = _mean(converter, frame, channels)
    yield frame


def _mean(converter: av.AudioResampler, frame: av.AudioFrame, channels: int) -> av.AudioFrame:
  time, base = frame.pts, frame.time_base
  frame.pts = None  # or the converter would fill gaps
  packed = [out.to_ndarray().reshape(-1, channels) for out in converter.resample(frame)]
  samples = np.concatenate(packed).mean(axis=1, dtype=np.float64).astype(np.float32)
  mixed = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
  mixed.sample_rate, mixed.pts = frame.sample_rate, time
  if base is not None:
    mixed.time_base = base
  return mixed
