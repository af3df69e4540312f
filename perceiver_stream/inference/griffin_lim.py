"""Waveforms from log-mel energies, by Griffin and Lim's iteration."""

import numpy as np
from jaxtyping import Float

from perceiver_stream.modalities import audio

FLOOR = 1e-5  # energy that the audio modality adds before the logarithm


def waveform(
  log_mel: Float[np.ndarray, "T F M"], config: audio.Config, num_iterations: int = 32
) -> Float[np.ndarray, " S"]:
  """Returns a waveform whose log-mel energies are near those given, `[T * num_samples]` in [-1, 1].

  Frames are inside ticks, so their spacing is wider at the end of a tick: energies are first
  interpolated to an even hop. Mel bands go back to frequency bins by least squares, and phases
  come from Griffin and Lim's iteration. Mel bands hold no phase, so the original waveform is not
  recovered, only one that sounds alike.

  Args:
    log_mel: Natural logarithms, as `modalities.audio` predicts them, of successive ticks.
    config: Of the audio modality.
    num_iterations: Rounds of Griffin-Lim.

  Source: Griffin and Lim 1984, with the momentum of Perraudin et al. 2013 (0.99).
  """
  total = log_mel.shape[0] * config.num_samples
  magnitude = _magnitude(_even(log_mel, config), config)
  phase = np.exp(2j * np.pi * np.random.default_rng(0).uniform(size=magnitude.shape))
  previous = np.zeros_like(phase)
  for _ in range(num_iterations):
    again = _analyse(_synthesise(magnitude * phase, config), config, len(magnitude))
    fast = again + 0.99 * (again - previous)
    phase, previous = fast / np.maximum(np.abs(fast), 1e-12), again
  sound = _synthesise(magnitude * phase, config)[:total]
  return np.clip(np.pad(sound, (0, total - len(sound))), -1, 1).astype(np.float32)


def _even(log_mel: np.ndarray, c: audio.Config) -> np.ndarray:
  """Returns energies on frames `hop` apart over all ticks, `[N, M]`."""
  ticks, frames, mels = log_mel.shape
  starts = (np.arange(ticks)[:, None] * c.num_samples + np.arange(frames) * c.hop).ravel()
  even = np.arange(0, ticks * c.num_samples - c.window + 1, c.hop)
  flat = log_mel.reshape(-1, mels)
  return np.stack([np.interp(even, starts, flat[:, m]) for m in range(mels)], axis=-1)


def _magnitude(log_mel: np.ndarray, c: audio.Config) -> np.ndarray:
  """Returns the magnitude of each frequency bin, `[N, window // 2 + 1]`."""
  filters = audio.mel_filters(c.num_mels, c.window, c.rate_hz)  # [bins, M]
  energy = np.maximum(np.exp(log_mel) - FLOOR, 0.0)
  power = np.maximum(energy @ np.linalg.pinv(filters), 0.0)
  return np.sqrt(power * c.window)


def _synthesise(spectrum: np.ndarray, c: audio.Config) -> np.ndarray:
  """Returns the waveform whose frames are nearest to `spectrum`, by windowed overlap-add."""
  window = np.hanning(c.window)
  frames = np.fft.irfft(spectrum, c.window) * window
  sound = np.zeros((len(frames) - 1) * c.hop + c.window)
  weight = np.zeros_like(sound)
  for i, frame in enumerate(frames):
    sound[i * c.hop : i * c.hop + c.window] += frame
    weight[i * c.hop : i * c.hop + c.window] += window**2
  return sound / np.maximum(weight, 1e-3)


def _analyse(sound: np.ndarray, c: audio.Config, num_frames: int) -> np.ndarray:
  starts = c.hop * np.arange(num_frames)[:, None] + np.arange(c.window)
  return np.fft.rfft(sound[starts] * np.hanning(c.window))
