"""DHA: depth, height above ground and angle with gravity, three channels instead of colour.

Source: SceneNet (Handa et al. 2016, 1511.07041), as its README lists the channels; its conversion is
not released. `streams.depth_geometry.dha` makes the channels from depth, intrinsics and gravity.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from perceiver_stream.modalities.base import mean_over_element
from perceiver_stream.modalities.dense import Dense, DenseConfig
from perceiver_stream.types import ModalitySpec, Positive


@dataclass(kw_only=True)
class Config(DenseConfig):
  """Sizes of the DHA modality.

  Attributes:
    depth_scale_m: Depth that counts as 1 inside the model.
    height_scale_m: Height that counts as 1.
    angle_scale_deg: Angle that counts as 1.
  """

  depth_scale_m: Positive = 4.0
  height_scale_m: Positive = 2.0
  angle_scale_deg: Positive = 90.0

  @property
  def spec(self) -> ModalitySpec:
    """Depth and height in metres, angle in degrees; all 0 where depth is unknown."""
    return ModalitySpec(
      shape=(self.height, self.width, 3),
      minimum=0.0,
      maximum=0.0,
      rate_hz=self.rate_hz,
      units="m, m, deg",
    )


class Dha(Dense):
  """DHA `[H, W, 3]`; predictions and targets are in the scales of the config.

  Pixels whose depth is 0 or not finite are unknown: 0 in every channel, without a share in loss and
  metric.
  """

  metric_name = "mae"

  def preprocess(self, raw: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns the channels in units of their scales; 0 where depth is unknown."""
    values = raw.astype(jnp.float32)
    known = jnp.isfinite(values).all(axis=-1, keepdims=True) & (values[..., :1] != 0)
    return jnp.where(known, values, 0.0) / self._scales(values.shape)

  def postprocess(self, prediction: np.ndarray) -> np.ndarray:
    """Returns metres, metres and degrees."""
    c = self.config
    scales = np.asarray([c.depth_scale_m, c.height_scale_m, c.angle_scale_deg], np.float32)
    return prediction * scales

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean squared difference over known pixels of the target."""
    return _mean_of_known(jnp.square(prediction - target), target)

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the mean absolute difference over known pixels, in units of the scales."""
    return _mean_of_known(jnp.abs(prediction - target), target)

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns an image: near is red, low is dark green, ceilings are blue; unknown is black."""
    depth, height, angle = np.moveaxis(np.asarray(prediction), -1, 0)
    colours = np.stack([1 - depth / 2, height / 1.5, angle / 2], axis=-1)
    known = (depth != 0)[..., None]
    return (np.clip(np.where(known, colours, 0), 0, 1) * 255).astype(np.uint8)

  def _scales(self, shape: tuple[int, ...]) -> Float[Array, "..."]:
    c = self.config
    scales = jnp.asarray([c.depth_scale_m, c.height_scale_m, c.angle_scale_deg], jnp.float32)
    return jnp.broadcast_to(scales, shape)


def _known(target: Num[Array, "N H W 3"]) -> Bool[Array, "N H W 3"]:
  return jnp.broadcast_to(target[..., :1] != 0, target.shape)


def _mean_of_known(error: Float[Array, "N H W 3"], target: Num[Array, "N H W 3"]) -> Array:
  known = _known(target)
  share = mean_over_element(known.astype(jnp.float32))
  total = mean_over_element(jnp.where(known, error, 0.0))
  return total / jnp.where(share > 0, share, 1.0)


MODALITY = (Config, Dha)
