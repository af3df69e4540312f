"""Log-mel frames with tensorflow-io, equal to ours, for pipelines that prepare sound in tf.data.

tensorflow-io's mel filters are triangles in mel instead of hertz, and its window has a different
last sample. Its spectrogram is therefore computed from windowed frames, followed by our filters.
Its native library does not load with the TensorFlow versions that are compatible with JAX. The
functions used here do not need it, so its warnings can be ignored.
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from perceiver_stream.modalities.audio import FLOOR, Config, mel_filters
from perceiver_stream.utils.optional import require


def log_mel(samples: Float[np.ndarray, " S"], config: Config) -> Any:
  """Returns log(energy + floor), a float32 tensor `[F, M]`, as `Audio.log_mel` does.

  Args:
    samples: Samples of one tick; may be a tensor inside a function mapped by tf.data.
    config: Config of the audio modality; its `window` is even.

  Raises:
    ImportError: The `tf` extra is not installed; the message has the command that installs it.
  """
  try:
    tf = require("tensorflow", "tf")
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of the native library
      tfio = require("tensorflow_io", "tf")
  except ImportError as error:
    raise ImportError(
      f"log_mel by tensorflow-io: {error} It needs Python 3.12 at most; without it, use the audio "
      f"modality's own."
    ) from error
  c = config
  theirs = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(c.window) / c.window)
  ratio = np.divide(np.hanning(c.window), theirs, out=np.zeros(c.window), where=theirs > 0)
  frames = tf.signal.frame(samples, c.window, c.hop) * ratio.astype(np.float32)
  # Frames one after another, without overlap.
  spectrum = tfio.audio.spectrogram(
    tf.reshape(frames, [-1]), nfft=c.window, window=c.window, stride=c.window
  )
  bands = mel_filters(c.num_mels, c.window, c.rate_hz).astype(np.float32)
  return tf.math.log(tf.square(spectrum) / c.window @ bands + FLOOR)
