"""A DenseNet for keypoints: images in, heat maps out; every layer reads all earlier ones.

Blocks of layers that each append a few channels to all earlier ones, and transitions between them
that halve the image. All inputs of a layer except the previous layer's output are shortcuts: when
stages run in parallel they are of a newer frame, which makes a temporal DenseNet.

Source: Huang et al. 2017, 1608.06993; in time our version of Carreira et al. 2018, 1806.03863.
Differs: normalised over channels, not over the batch; one strided convolution as the stem, heat maps
as the output.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.execution.nets import heatmap
from perceiver_stream.models.stages import (
  FRAMES,
  Layer,
  Staged,
  apply_image_net,
  check_halvings,
  image_net,
  scoped_layer,
)
from perceiver_stream.nn.conv import Conv2D, norm_act_conv, pool


@dataclass(kw_only=True)
class Config:
  """Sizes of a DenseNet; the defaults are those of DenseNet-121 except the stem's stride.

  Attributes:
    stem_channels: Of the first convolution, which halves the image.
    growth: Channels that a layer adds.
    blocks: Layers of each block; the image is halved between blocks.
    bottleneck: Width of a layer's 1×1 convolution, over `growth`; 0 leaves it out.
    compression: Channels after a transition, over those before.
    num_keypoints: Number of heat maps.
  """

  stem_channels: int = 64
  growth: int = 32
  blocks: tuple[int, ...] = (6, 12, 24, 16)
  bottleneck: int = 4
  compression: float = 0.5
  num_keypoints: int = 1

  def __post_init__(self):
    self.validate()

  @property
  def stride(self) -> int:
    """Pixels of a cell of the heat maps."""
    return 2 ** len(self.blocks)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    sizes = {n: getattr(self, n) for n in ("stem_channels", "growth", "num_keypoints")}
    if not self.blocks or min(*sizes.values(), *self.blocks) < 1:
      raise ValueError(f"densenet: {sizes} and blocks={self.blocks} must all be 1 or more.")
    if self.bottleneck < 0 or not 0 < self.compression <= 1:
      raise ValueError(
        f"densenet: bottleneck={self.bottleneck} and compression={self.compression}; use 0 or more, "
        f"and a share above 0, at most 1."
      )


def layers(config: Config) -> tuple[Layer, ...]:
  """Returns the layers; they read the register `frames`, and the last writes the heat maps."""
  config.validate()
  stem = lambda x: Conv2D(config.stem_channels, stride=2, in_loop=True, name="conv")(x)  # noqa: E731
  found, channels = [scoped_layer("densenet_stem", [FRAMES], stem)], config.stem_channels
  for b, depth in enumerate(config.blocks):
    block = [found[-1].name]
    for i in range(depth):
      name = f"densenet_{b}_{i}"
      found.append(scoped_layer(name, block[::-1], lambda *x: _grown(config, x)))
      block.append(name)
    channels += depth * config.growth
    if b + 1 < len(config.blocks):
      channels = max(1, int(channels * config.compression))
      shrink = lambda *x, dim=channels: pool(_joined(x, dim, kernel=1), "mean")  # noqa: E731
      found.append(scoped_layer(f"densenet_transition_{b}", block[::-1], shrink))
    else:
      found.append(heatmap.head("densenet_head", tuple(block[::-1]), config.num_keypoints))
  return tuple(found)


def densenet(config: Config, frames: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
  """Returns the heat maps of every frame, as logits; call it inside a Haiku transform.

  Raises:
    ValueError: The frames cannot be halved as often as there are blocks.
  """
  return apply_image_net(staged(config, *frames.shape[1:]), frames)


def staged(config: Config, height: int, width: int, input_dim: int = 3) -> Staged:
  """Returns the net as layers, for frames of one size; see `densenet`."""
  check_halvings("densenet", height, width, len(config.blocks), "blocks")
  return image_net("densenet", layers(config), height, width, input_dim)


def _grown(config: Config, features: tuple[Array, ...]) -> Float[Array, "B h w G"]:
  """Returns the features that a layer adds to those before it."""
  if config.bottleneck:
    dim = config.bottleneck * config.growth
    features = (_joined(features, dim, kernel=1, prefix="bottleneck_"),)
  return _joined(features, config.growth)


def _joined(features: tuple[Array, ...], dim: int, **how: Any) -> Float[Array, "B h w K"]:
  """Returns the concatenated features after normalisation and convolution."""
  return norm_act_conv(jnp.concatenate(features, axis=-1), dim, in_loop=True, **how)
