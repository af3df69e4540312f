"""Optical flow as an observation, from a simulator or another method."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from perceiver_stream.modalities.base import mean_over_element
from perceiver_stream.modalities.dense import Dense, DenseConfig
from perceiver_stream.types import ModalitySpec, Positive


@dataclass(kw_only=True)
class Config(DenseConfig):
  """Sizes of the flow modality.

  Attributes:
    scale: Flow in pixels that counts as 1 inside the model.
  """

  scale: Positive = 4.0

  @property
  def spec(self) -> ModalitySpec:
    """Displacement (x, y) in pixels to the next tick."""
    return ModalitySpec(
      shape=(self.height, self.width, 2),
      minimum=0.0,
      maximum=0.0,
      rate_hz=self.rate_hz,
      units="px/tick",
    )


class Flow(Dense):
  """Flow `[H, W, 2]` (x, y) in pixels; predictions and targets are in units of `scale`."""

  metric_name = "epe"

  def preprocess(self, raw: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns the flow in units of `scale`; non-finite values become zero."""
    finite = jnp.nan_to_num(raw.astype(jnp.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return finite / self.config.scale

  def postprocess(self, prediction: np.ndarray) -> np.ndarray:
    """Returns pixels per tick."""
    return prediction * np.float32(self.config.scale)

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean end-point error in units of `scale`, smooth at zero."""
    squared = jnp.sum(jnp.square(prediction - target), axis=-1)
    return mean_over_element(jnp.sqrt(squared + 1e-6))

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean end-point error in pixels."""
    squared = jnp.sum(jnp.square(prediction - target), axis=-1)
    return mean_over_element(jnp.sqrt(squared)) * self.config.scale

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns an image with direction as hue and speed as saturation; white is no motion."""
    x, y = prediction[..., 0], prediction[..., 1]
    hue = np.arctan2(-y, -x) / np.pi  # [-1, 1]
    speed = np.clip(np.hypot(x, y), 0, 1)[..., None]
    phase = 2 * np.pi * (hue[..., None] / 2 + np.asarray([0.0, 1 / 3, 2 / 3]))
    colour = 0.5 + 0.5 * np.cos(phase)
    return ((1 - speed * (1 - colour)) * 255).astype(np.uint8)


MODALITY = (Config, Flow)
