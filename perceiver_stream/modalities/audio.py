"""Audio: one tick of sound, encoded as raw patches or as log-mel frames.

The prediction space is log-mel energies or the waveform. Log-mel energies can be compared with a
copy-last baseline tick by tick; waveforms cannot, because of their phase.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Num

from perceiver_stream.modalities.base import Modality, ModalityConfig, mean_over_element
from perceiver_stream.modalities.memory import Memory
from perceiver_stream.nn import Precision
from perceiver_stream.types import Bands, ModalitySpec, Positive, Size

SPACES = ("log_mel", "waveform")
TOKENIZERS = ("patch", "log_mel")
FLOOR = 1e-5  # minimum energy in log-mel: about -50 dB
DB = 10 / np.log(10)  # decibels in one natural logarithm of energy


@dataclass(kw_only=True)
class Config(ModalityConfig):
  """Sizes of the audio modality.

  Attributes:
    num_samples: Samples in one tick, S.
    rate_hz: Samples per second.
    tokenizer: `"patch"` (groups of raw samples) or `"log_mel"` (frames of log-mel energies).
    patch: Samples in a raw patch.
    predict: `"log_mel"` or `"waveform"`.
    window: Samples in a spectral frame.
    hop: Samples between spectral frames; all frames lie inside the tick.
    num_mels: Mel bands between 0 Hz and half of `rate_hz`.
    slow_ticks: As in every modality, with a long default: sound far ahead is best predicted by its
      long-term mean.
  """

  num_samples: Size = 640
  rate_hz: Positive = 16000.0
  tokenizer: str = "log_mel"
  patch: Size = 16
  predict: str = "log_mel"
  window: Size = 256
  hop: Size = 128
  num_mels: Bands = 32
  slow_ticks: Positive = 250.0

  @property
  def spec(self) -> ModalitySpec:
    """Mono samples."""
    return ModalitySpec(
      shape=(self.num_samples,), minimum=-1.0, maximum=1.0, rate_hz=self.rate_hz, units="full scale"
    )

  @property
  def num_frames(self) -> int:
    """Spectral frames in a tick."""
    return 1 + (self.num_samples - self.window) // self.hop

  def fitted(self, spec: ModalitySpec) -> "Config":
    """Returns this config with the samples per tick and the rate of `spec`."""
    return replace(self, num_samples=spec.shape[0], rate_hz=spec.rate_hz)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.tokenizer not in TOKENIZERS:
      raise ValueError(f"audio: tokenizer {self.tokenizer!r} is not one of {TOKENIZERS}.")
    if self.predict not in SPACES:
      raise ValueError(f"audio: predict={self.predict!r} is not one of {SPACES}.")
    if self.num_samples % self.patch:
      raise ValueError(
        f"audio: a tick of {self.num_samples} samples is not a multiple of patch={self.patch}; "
        f"change patch or the audio rate."
      )
    if self.window > self.num_samples:
      raise ValueError(
        f"audio: a tick of {self.num_samples} samples is shorter than window={self.window}; "
        f"use a window of at most {self.num_samples} or a lower tick rate."
      )


class Audio(Modality):
  """Mono sound `[S]` in [-1, 1]; predictions are log-mel `[frames, mels]` or `[S]` samples."""

  @property
  def metric_name(self) -> str:
    """Log-spectral distance in dB, or mean squared error of the waveform."""
    return "lsd" if self.config.predict == "log_mel" else "mse"

  def grid_shape(self) -> tuple[int, ...]:
    """Cells in time: spectral frames, or patches of samples."""
    c = self.config
    return (c.num_frames if c.predict == "log_mel" else c.num_samples // c.patch,)

  def tokens(
    self, memory: Memory, derived: tuple, dim: int, precision: Precision
  ) -> Float[Array, "B N C"]:
    """Returns one token per raw patch or per spectral frame."""
    c = self.config
    if c.tokenizer == "log_mel":
      cells = _scale(self.log_mel(memory.last))
    else:
      cells = rearrange(memory.last, "b (n p) -> b n p", p=c.patch)
    positions = self._token_positions(cells.shape[1])
    return self._embed(precision.cast(cells), positions, dim, "tokens")

  def split(self, prediction: Float[Array, "B ..."]) -> Float[Array, "B Q ..."]:
    """Returns log-mel frames unchanged, or a waveform in patches."""
    if self.config.predict == "log_mel":
      return prediction
    return rearrange(prediction, "b (n p) -> b n p", p=self.config.patch)

  def assemble(self, cells: Float[Array, "B Q ..."]) -> Float[Array, "B ..."]:
    """Returns the whole tick; the inverse of `split`."""
    if self.config.predict == "log_mel":
      return cells
    return rearrange(cells, "b n p -> b (n p)")

  def copy(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns the log-mel of this tick, or its waveform."""
    return self.log_mel(value) if self.config.predict == "log_mel" else value

  def target(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns the tick in the predicted space."""
    return self.copy(value)

  def prior(self, batch_size: int) -> Float[Array, "B ..."]:
    """Returns silence, or log-mel half way between silence and full scale."""
    silence = super().prior(batch_size)
    return silence / 2 if self.config.predict == "log_mel" else silence

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean squared difference; log-mel in units of 10 dB."""
    scale = (DB / 10) ** 2 if self.config.predict == "log_mel" else 1.0
    return mean_over_element(jnp.square(prediction - target)) * scale

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the log-spectral distance in dB (root mean square over frames and bands)."""
    squared = mean_over_element(jnp.square(prediction - target))
    return DB * jnp.sqrt(squared) if self.config.predict == "log_mel" else squared

  def log_mel(self, samples: Float[Array, "... S"]) -> Float[Array, "... F M"]:
    """Returns the output of the function `log_mel` for this config."""
    return log_mel(samples, self.config)

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns a spectrogram (low bands below, -50 dB black, 0 dB white) or the waveform's shape."""
    if prediction.ndim == 1:
      rows = np.linspace(1, -1, 33)[:, None]
      grey = (np.abs(rows) <= np.abs(prediction)[None]).astype(np.float32)
    else:
      grey = np.clip((prediction.T[::-1] - np.log(FLOOR)) / -np.log(FLOOR), 0, 1)
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)

  def _token_positions(self, num: int) -> np.ndarray:
    return ((2 * np.arange(num) + 1) / num - 1)[:, None]

  def _cells(self, memory: Memory, derived: tuple) -> Float[Array, "B N F"]:
    cells = super()._cells(memory, derived)
    return _scale(cells) if self.config.predict == "log_mel" else cells


def _scale(log_mel: Float[Array, "..."]) -> Float[Array, "..."]:
  return log_mel * 0.2


def log_mel(samples: Any, config: Config, xp: Any = jnp) -> Any:
  """Returns log(energy + floor) of `num_mels` bands in frames that lie inside the tick.

  Args:
    samples: `[..., S]` float in [-1, 1].
    config: Sizes of frames and bands.
    xp: `jax.numpy` or `numpy`, used for the computation.

  Returns:
    `[..., frames, num_mels]`, natural logarithms of energy.
  """
  starts = config.hop * np.arange(config.num_frames)[:, None] + np.arange(config.window)
  frames = samples[..., starts] * xp.asarray(np.hanning(config.window), xp.float32).reshape(
    (1,) * samples.ndim + (-1,)
  )
  spectrum = xp.square(xp.abs(xp.fft.rfft(frames))) / config.window
  bands = xp.asarray(mel_filters(config.num_mels, config.window, config.rate_hz), xp.float32)
  return xp.log(spectrum @ bands + FLOOR)


def mel_filters(num_mels: int, window: int, rate_hz: float) -> np.ndarray:
  """Returns triangular mel filters, `[window // 2 + 1, num_mels]` float64.

  HTK mel scale, 2595 log10(1 + f / 700), bands from 0 Hz to half of `rate_hz`. Bands narrower than
  a frequency bin are widened to one bin, so that none is empty.
  """
  top = 2595 * np.log10(1 + rate_hz / 2 / 700)
  edges = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
  frequencies = np.linspace(0, rate_hz / 2, window // 2 + 1)[:, None]
  bin_hz = rate_hz / window
  left = np.minimum(edges[:-2], edges[1:-1] - bin_hz)
  right = np.maximum(edges[2:], edges[1:-1] + bin_hz)
  rising = (frequencies - left) / (edges[1:-1] - left)
  falling = (right - frequencies) / (right - edges[1:-1])
  return np.maximum(0.0, np.minimum(rising, falling))


MODALITY = (Config, Audio)
