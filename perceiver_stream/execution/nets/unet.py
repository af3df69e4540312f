"""A UNet: images in, images of the same size out; every block is a layer.

The image is halved level by level and doubled again; each level's features on the way down are
read on the way up, which makes them shortcuts in time when stages run in parallel.

Source: Ronneberger et al. 2015, 1505.04597. Differs: residual blocks, normalised over channels, in
place of pairs of plain convolutions; strided convolutions in place of pooling; nearest-neighbour
doubling.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.stages import (
  FRAMES,
  Layer,
  Staged,
  apply_image_net,
  check_halvings,
  image_net,
  scoped_layer,
)
from perceiver_stream.nn import repeat_2d
from perceiver_stream.nn.conv import Conv2D, norm_act_conv


@dataclass(kw_only=True)
class Config:
  """Sizes of a UNet.

  Attributes:
    channels: Of every level, from full size down; each level has half the size of the one before.
    num_blocks: Residual blocks of a level, on the way down and on the way up.
    output_dim: Channels of the output.
    join: Merge of encoder features into the decoder: `"concat"` or `"add"`.
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  num_blocks: int = 1
  output_dim: int = 3
  join: str = "concat"

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if not self.channels or min(self.channels) < 1 or min(self.num_blocks, self.output_dim) < 1:
      raise ValueError(
        f"unet: channels={self.channels}, num_blocks={self.num_blocks} and output_dim="
        f"{self.output_dim} must all be 1 or more."
      )
    if self.join not in ("concat", "add"):
      raise ValueError(f"unet: join={self.join!r} is not one of ('concat', 'add').")

  def check_size(self, height: int, width: int) -> None:
    """Raises ValueError if a frame cannot be halved as often as there are levels."""
    check_halvings("unet", height, width, len(self.channels) - 1, "channels")


def layers(config: Config) -> tuple[Layer, ...]:
  """Returns the layers; they read the register `frames`, and the last writes the output."""
  config.validate()
  found = [
    scoped_layer("unet_stem", [FRAMES], lambda x: Conv2D(config.channels[0], name="conv")(x))
  ]
  lowest = len(config.channels) - 1
  sides = []  # the last register of every level on the way down
  for level in range(lowest + 1):
    for i in range(config.num_blocks):
      shrink = level > 0 and i == 0
      found.append(_block(f"unet_down_{level}_{i}", found[-1].name, config.channels[level], shrink))
    sides.append(found[-1].name)
  for level in reversed(range(lowest)):
    for i in range(config.num_blocks):
      name, before = f"unet_up_{level}_{i}", found[-1].name
      if i:
        found.append(_block(name, before, config.channels[level], False))
      else:
        found.append(_joint(name, before, sides[level], config.channels[level], config.join))
  found.append(
    scoped_layer("unet_head", [found[-1].name], lambda x: norm_act_conv(x, config.output_dim))
  )
  return tuple(found)


def unet(config: Config, frames: Float[Array, "B H W C"]) -> Float[Array, "B H W K"]:
  """Returns the output for every frame; call it inside a Haiku transform.

  Raises:
    ValueError: The frames cannot be halved as often as there are levels.
  """
  return apply_image_net(staged(config, *frames.shape[1:]), frames)


def staged(config: Config, height: int, width: int, input_dim: int = 3) -> Staged:
  """Returns the net as layers, for frames of one size; see `unet`."""
  config.check_size(height, width)
  return image_net("unet", layers(config), height, width, input_dim)


def _residual(x: Float[Array, "B H W C"], dim: int) -> Float[Array, "B H W K"]:
  return x + norm_act_conv(x, dim, prefix="residual_")


def _block(name: str, before: str, dim: int, shrink: bool) -> Layer:
  return scoped_layer(
    name, [before], lambda x: _residual(norm_act_conv(x, dim, stride=2 if shrink else 1), dim)
  )


def _joint(name: str, before: str, side: str, dim: int, join: str) -> Layer:
  """Returns a block on doubled features and those of the way down."""

  def function(x: Array, y: Array) -> Array:
    x = repeat_2d(x, 2)
    if join == "add":
      return _residual(y + norm_act_conv(x, dim), dim)
    return _residual(norm_act_conv(jnp.concatenate([x, y], axis=-1), dim), dim)

  return scoped_layer(name, [before, side], function)
