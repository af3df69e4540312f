"""Features of frames at two resolutions: a ResNet with instance norms, and extra convolutions."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.tapir.config import Config
from perceiver_stream.nn import LayerNorm, gelu, sample_bilinear
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.nn.precision import broadcast

EPS = 1e-5  # in all norms of the release


class FeatureMaps(NamedTuple):
  """Features of unit length per cell.

  Attributes:
    high: At a quarter of the size.
    low: At an eighth of the size.
  """

  high: Float[Array, "B H W C"]
  low: Float[Array, "B h w D"]


class InstanceNorm(hk.Module):
  """Normalises each channel of each image over its pixels, then scales and shifts."""

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Returns the normalised images."""
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(variance + EPS)
    get = lambda name, init: hk.get_parameter(name, x.shape[-1:], jnp.float32, init)  # noqa: E731
    return y * broadcast(get("scale", jnp.ones), y) + broadcast(get("offset", jnp.zeros), y)


class ResidualBlock(hk.Module):
  """Pre-activation residual block; its shortcut is a convolution if `project`."""

  def __init__(self, dim: int, stride: int, *, project: bool, name: str):
    super().__init__(name=name)
    self.dim, self.stride, self.project = dim, stride, project

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns features, smaller by the stride."""
    shortcut, sizes = x, {"stride": self.stride, "use_bias": False}
    x = jax.nn.relu(InstanceNorm(name="norm_0")(x))
    if self.project:
      shortcut = Conv2D(self.dim, kernel=1, name="shortcut", **sizes)(x)
    x = Conv2D(self.dim, name="conv_0", **sizes)(x)
    x = jax.nn.relu(InstanceNorm(name="norm_1")(x))
    return shortcut + Conv2D(self.dim, use_bias=False, name="conv_1")(x)


class Extractor(hk.Module):
  """Feature maps of frames."""

  def __init__(self, config: Config, *, name: str = "features"):
    super().__init__(name=name)
    self.config = config

  def __call__(self, frames: Float[Array, "B H W 3"]) -> FeatureMaps:
    """Returns the features of frames in [-1, 1]; rows and columns are multiples of 8."""
    c = self.config
    x = Conv2D(c.stem, kernel=7, stride=2, use_bias=False, name="stem")(frames)
    groups = [(c.stem, 1), (c.high_dim, 2), (c.middle_dim, 2), (c.low_dim, 1)]
    units = []
    for i, (dim, stride) in enumerate(groups):
      for j in range(2):
        name = f"group_{i}_block_{j}"
        x = ResidualBlock(dim, 1 if j else stride, project=j == 0, name=name)(x)
      units.append(x)
    return FeatureMaps(_unit(units[1]), _unit(self._extra(x)))

  @hk.name_like("__call__")
  def _extra(self, x: Array) -> Array:
    for i in range(self.config.num_extra):
      x = LayerNorm(eps=EPS, name=f"extra_{i}_norm")(x)
      hidden = gelu(Conv2D(4 * x.shape[-1], name=f"extra_{i}_hidden")(x))
      x = x + Conv2D(x.shape[-1], name=f"extra_{i}_output")(hidden)
    return x


def _unit(x: Array) -> Array:
  squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(squared, 1e-12))


def read_map(
  maps: Float[Array, "B H W C"], place: Float[Array, "B *n 2"], *, fade: bool
) -> Float[Array, "B *n C"]:
  """Returns features at (y, x); the first cell has its centre at 0.5.

  Args:
    maps: Feature maps.
    place: Positions in cells.
    fade: Outside the map, fade to zero within a cell; else the value of the border.
  """
  place = place - 0.5
  if fade:
    maps = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    place = place + 1
  return sample_bilinear(maps, place[..., 0], place[..., 1])
