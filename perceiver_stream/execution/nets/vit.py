"""A vision transformer: images in, images of the same size out; every block is a layer.

Source: Dosovitskiy et al. 2021, 2010.11929. Differs: no class token; a linear head predicts the
pixels of every patch, so that the output is an image.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float

from perceiver_stream.models.stages import (
  FRAMES,
  Layer,
  Staged,
  apply_image_net,
  image_net,
  scoped_layer,
)
from perceiver_stream.nn import LayerNorm, LearnedPositions, Linear, SelfBlock, patchify, unpatchify


@dataclass(kw_only=True)
class Config:
  """Sizes of a vision transformer; the defaults are those of ViT-S/16.

  Attributes:
    patch: Side of a patch, pixels.
    dim: Width of a token.
    num_layers: Blocks of self-attention.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs.
    output_dim: Channels of the output.
  """

  patch: int = 16
  dim: int = 384
  num_layers: int = 12
  num_heads: int = 6
  mlp_dim: int = 1536
  output_dim: int = 3

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    sizes = {n: getattr(self, n) for n in ("patch", "dim", "num_layers", "mlp_dim", "output_dim")}
    if min(sizes.values()) < 1:
      raise ValueError(f"vit: {sizes} must all be 1 or more.")
    if self.num_heads < 1 or self.dim % self.num_heads:
      raise ValueError(f"vit: dim={self.dim} is not a multiple of num_heads={self.num_heads}.")

  def grid(self, height: int, width: int) -> tuple[int, int]:
    """Returns rows and columns of patches; raises ValueError if they do not fill the frame."""
    if height % self.patch or width % self.patch:
      raise ValueError(
        f"vit: frames of {height}×{width} are not a whole number of patches of {self.patch}; crop "
        f"or pad them, or change patch."
      )
    return height // self.patch, width // self.patch


def layers(config: Config, height: int, width: int) -> tuple[Layer, ...]:
  """Returns the layers for frames of one size; they read `frames`, the last writes the output."""
  config.validate()
  rows, columns = config.grid(height, width)

  def embed(frames: Array) -> Array:
    patches = patchify(frames, config.patch)
    patches = patches.reshape(frames.shape[0], rows * columns, -1)
    where = LearnedPositions(rows * columns, config.dim, name="positions")(frames.shape[0])
    return Linear(config.dim, name="embed")(patches) + where

  def head(x: Array) -> Array:
    x = Linear(config.patch**2 * config.output_dim, name="pixels")(LayerNorm(name="norm")(x))
    return unpatchify(x.reshape(x.shape[0], rows, columns, -1), config.patch)

  def block(x: Array) -> Array:
    return SelfBlock(config.num_heads, mlp_dim=config.mlp_dim, name="block")(x)

  names = ["vit_embed", *(f"vit_block_{i}" for i in range(config.num_layers)), "vit_head"]
  functions = [embed, *[block] * config.num_layers, head]
  reads = [FRAMES, *names]
  return tuple(scoped_layer(n, [r], f) for n, r, f in zip(names, reads, functions, strict=False))


def vit(config: Config, frames: Float[Array, "B H W C"]) -> Float[Array, "B H W K"]:
  """Returns the output for every frame; call it inside a Haiku transform.

  Raises:
    ValueError: The frames are not a whole number of patches.
  """
  return apply_image_net(staged(config, *frames.shape[1:]), frames)


def staged(config: Config, height: int, width: int, input_dim: int = 3) -> Staged:
  """Returns the net as layers, for frames of one size; see `vit`. It has no shortcuts."""
  return image_net("vit", layers(config, height, width), height, width, input_dim)
