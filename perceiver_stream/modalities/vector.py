"""Vectors: proprioception, actions, poses, or any other small set of numbers per tick."""

from dataclasses import dataclass, replace

import numpy as np

from perceiver_stream.modalities.base import Modality, ModalityConfig
from perceiver_stream.types import ModalitySpec, Positive, Size


@dataclass(kw_only=True)
class Config(ModalityConfig):
  """Size of the vector modality.

  Attributes:
    size: Numbers per tick; scale them to about [-1, 1].
    rate_hz: Ticks per second.
  """

  size: Size = 8
  rate_hz: Positive = 25.0

  @property
  def spec(self) -> ModalitySpec:
    """Unbounded numbers."""
    return ModalitySpec(shape=(self.size,), minimum=0.0, maximum=0.0, rate_hz=self.rate_hz)

  def fitted(self, spec: ModalitySpec) -> "Config":
    """Returns this config with the length and rate of `spec`."""
    return replace(self, size=spec.shape[0], rate_hz=spec.rate_hz)


class Vector(Modality):
  """Numbers `[size]`, one token, one query."""

  metric_name = "mse"

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns one grey bar per number."""
    grey = np.clip((np.tanh(prediction) + 1) / 2, 0, 1)
    bars = np.repeat(np.repeat((grey * 255).astype(np.uint8)[None], 8, axis=0), 4, axis=1)
    return np.repeat(bars[..., None], 3, axis=-1)


MODALITY = (Config, Vector)
