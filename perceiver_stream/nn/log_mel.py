"""Log-mel spectrograms of BraVe, MMV and VATT; `modalities.audio` has the library's own."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

FRAME = 320  # samples of a frame and of its transform, whatever the rate
LOW_HZ, HIGH_HZ = 80.0, 7600.0
GAIN = 1e4


def mel_matrix(
  num_mels: int,
  num_bins: int,
  rate_hz: float | int,
  low_hz: float = LOW_HZ,
  high_hz: float = HIGH_HZ,
) -> Float[np.ndarray, "F M"]:
  """Returns triangular filters of bins, equally wide in mel (HTK's scale); bin 0 is in none.

  Filters narrower than a bin can be empty, as 16 of 80 are at 48 kHz with 161 bins.

  Args:
    num_mels: Filters.
    num_bins: Bins from 0 Hz to half of the rate.
    rate_hz: Samples per second.
    low_hz: Lower edge of the first filter.
    high_hz: Upper edge of the last filter.
  """
  mel = lambda hz: 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)  # noqa: E731
  bins = mel(np.linspace(0.0, rate_hz / 2, num_bins))[1:, None]
  edges = np.linspace(mel(low_hz), mel(high_hz), num_mels + 2)
  rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
  falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
  filters = np.maximum(0.0, np.minimum(rising, falling))
  return np.pad(filters, ((1, 0), (0, 0))).astype(np.float32)


def log_mel(
  samples: Float[Array, "*B S"], *, rate_hz: float | int, num_mels: int, hop: int
) -> Float[Array, "*B F M"]:
  """Returns log(1 + 10⁴ · mel magnitudes), F = ⌈S / hop⌉ frames of 320 samples.

  Frames have a periodic Hann window; the last ones are filled up with zeros.

  Args:
    samples: Mono sound in [-1, 1].
    rate_hz: Samples per second.
    num_mels: Bands from 80 to 7600 Hz.
    hop: Samples from one frame to the next.

  Source: google-deepmind/brave, brave/datasets/spectrograms.py.
  """
  count = -(-samples.shape[-1] // hop)
  short = (count - 1) * hop + FRAME - samples.shape[-1]
  padded = jnp.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, max(short, 0))])
  index = np.arange(count)[:, None] * hop + np.arange(FRAME)[None]
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
  frames = padded[..., index]
  frames = frames * jnp.asarray(np.broadcast_to(window, frames.shape), samples.dtype)
  filters = jnp.asarray(mel_matrix(num_mels, FRAME // 2 + 1, rate_hz))
  return jnp.log1p(GAIN * (jnp.abs(jnp.fft.rfft(frames)) @ filters))
