"""Sizes of RVM; defaults are the published small model."""

from dataclasses import dataclass, field

from perceiver_stream.types import Layers, Share, Size, Ticks


@dataclass(kw_only=True)
class LayersConfig:
  """Depth and width of a transformer.

  Attributes:
    num_layers: Blocks.
    num_heads: Attention heads.
    mlp_dim: Hidden width of the MLPs.
    dim: Width; None: that of the tokens.
    qkv_dim: Width of queries, keys and values; None: that of the query input.
  """

  num_layers: Layers
  num_heads: Size
  mlp_dim: Size
  dim: Size | None = None
  qkv_dim: Size | None = None


@dataclass(kw_only=True)
class Config:
  """Sizes of RVM; defaults are the published small model.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    channels: Channels of a frame; the common model contract needs three, RGB.
    patch: Rows and columns of a patch.
    base_grid: Grid on which the encoder's position table is defined; others are interpolated.
    dim: Width of a token and of the state.
    encoder: Frame encoder.
    core: Transformer that proposes the new state.
    decoder: Decoder of masked targets; needs `dim`.
    mask_ratio: Share of a target's patches that is hidden.
    displacements: Ticks ahead that are predicted; trained from 4 to 48.
    remat: If True, ticks are recomputed in the backward pass.
  """

  height: Size = 256
  width: Size = 256
  channels: Size = 3
  patch: Size = 16
  base_grid: tuple[Size, Size] = (16, 16)
  dim: Size = 384
  encoder: LayersConfig = field(
    default_factory=lambda: LayersConfig(num_layers=12, num_heads=6, mlp_dim=1536)
  )
  core: LayersConfig = field(
    default_factory=lambda: LayersConfig(num_layers=4, num_heads=6, mlp_dim=1536)
  )
  decoder: LayersConfig = field(
    default_factory=lambda: LayersConfig(num_layers=8, num_heads=16, mlp_dim=2048, dim=512)
  )
  mask_ratio: Share = 0.95
  displacements: tuple[Ticks, ...] = (4,)
  remat: bool = True

  def grid(self) -> tuple[int, int]:
    """Returns rows and columns of patches.

    Raises:
      ValueError: The frame is not a whole number of patches.
    """
    if self.height % self.patch or self.width % self.patch:
      raise ValueError(
        f"rvm: frames {self.height}×{self.width} are not a whole number of {self.patch}×"
        f"{self.patch} patches; crop or resize them."
      )
    return self.height // self.patch, self.width // self.patch

  def num_visible(self) -> int:
    """Returns the number of visible patches of a target."""
    rows, columns = self.grid()
    return int(rows * columns * (1 - self.mask_ratio) + 1e-6)
