"""Log-mel frames by tensorflow-io, for pipelines that prepare sound in tf.data: equal to ours.

tensorflow-io's own mel scale has triangles in mel where ours are in hertz, and its window another
last sample; so its spectrogram is given frames weighted beforehand, and our filters follow. Its
native library does not load beside the TensorFlow that JAX can live with; what is used here needs
none, and its warnings about that can be ignored.
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
    samples: Of one tick; also a tensor, in a function that tf.data maps.
    config: Of the audio modality; its `window` is even.

  Raises:
    ImportError: The `tf` extra is not there; the message says how to install it.
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
  # One frame after the other: nothing overlaps.
  spectrum = tfio.audio.spectrogram(
    tf.reshape(frames, [-1]), nfft=c.window, window=c.window, stride=c.window
  )
  bands = mel_filters(c.num_mels, c.window, c.rate_hz).astype(np.float32)
  return tf.math.log(tf.square(spectrum) / c.window @ bands + FLOOR)
