"""Depth: metric depth images, predicted as logarithms."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from perceiver_stream.modalities.base import mean_over_element
from perceiver_stream.modalities.dense import Dense, DenseConfig
from perceiver_stream.types import ModalitySpec, Positive


@dataclass(kw_only=True)
class Config(DenseConfig):
  """Sizes and range of the depth modality.

  Attributes:
    nearest: Smallest depth in metres; smaller values are clipped.
    farthest: Largest depth in metres; larger, infinite and NaN values are clipped to it.
  """

  nearest: Positive = 0.1
  farthest: Positive = 100.0

  @property
  def spec(self) -> ModalitySpec:
    """Metres along the optical axis."""
    return ModalitySpec(
      shape=(self.height, self.width),
      minimum=self.nearest,
      maximum=self.farthest,
      rate_hz=self.rate_hz,
      units="m",
    )

  def fitted(self, spec: ModalitySpec) -> "Config":
    """Returns this config with the size and rate of `spec`, and its range if it has one."""
    config = replace(self, height=spec.shape[0], width=spec.shape[1], rate_hz=spec.rate_hz)
    if not 0 < spec.minimum < spec.maximum < float("inf"):
      return config
    return replace(config, nearest=spec.minimum, farthest=spec.maximum)


class Depth(Dense):
  """Depth `[H, W]` in metres; predictions and targets are natural logarithms of metres."""

  metric_name = "abs_rel"

  def preprocess(self, raw: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns log depth, clipped to the configured range."""
    c = self.config
    metres = jnp.nan_to_num(raw.astype(jnp.float32), nan=c.farthest, posinf=c.farthest)
    return jnp.log(jnp.clip(metres, c.nearest, c.farthest))

  def postprocess(self, prediction: np.ndarray) -> np.ndarray:
    """Returns metres."""
    return np.exp(prediction)

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean squared difference of log depth.

    The absolute difference would converge to the median, mostly that of the background: a small
    model did not leave it within 3,000 ticks.
    """
    return mean_over_element(jnp.square(prediction - target))

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns AbsRel: mean |p - g| / g in metres, without alignment."""
    return mean_over_element(jnp.abs(jnp.expm1(prediction - target)))

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns an image on the log scale: near is white, far is black."""
    low, high = np.log(self.config.nearest), np.log(self.config.farthest)
    grey = np.clip(1 - (prediction - low) / (high - low), 0, 1)
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)


MODALITY = (Config, Depth)
