"""Moving pictures made in a line: what evaluation is tested on."""

import numpy as np


def texture(size: int, seed: int = 0) -> np.ndarray:
  """Returns smooth periodic noise, float64 `[size, size, 3]` in [0, 255]."""
  rng = np.random.default_rng(seed)
  spectrum = np.fft.fft2(rng.normal(size=(size, size, 3)), axes=(0, 1))
  frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))[..., None]
  smooth = np.fft.ifft2(spectrum * np.exp(-((frequency / 0.08) ** 2)), axes=(0, 1)).real
  low, high = smooth.min(), smooth.max()
  return (smooth - low) / (high - low) * 255


def moving(ticks: int, size: int = 32, speed: int = 1, seed: int = 0) -> np.ndarray:
  """Returns uint8 `[ticks, size, size, 3]`: a texture that moves right by `speed` pixels a tick."""
  whole = texture(2 * size, seed).round().astype(np.uint8)
  return np.stack([np.roll(whole, speed * t, axis=1)[:size, :size] for t in range(ticks)])
