"""Sizes of V-JEPA and V-JEPA 2."""

import math
from dataclasses import dataclass
from typing import Literal

from perceiver_stream.models.tubelets import Sizes, check_tubelets, tubelet_grid
from perceiver_stream.types import Count, Layers, Positive, Share, Size

Range = tuple[float, float]


@dataclass(kw_only=True)
class MaskConfig:
  """One set of masks: the union of some blocks is hidden.

  Attributes:
    num_blocks: Blocks, all of one size.
    spatial_scale: Least and largest share of a frame's patches in a block.
    temporal_scale: Least and largest share of the clip's length in a block.
    aspect_ratio: Least and largest ratio of a block's height to its width.
    max_temporal_keep: Share of the clip that the context may span; later patches are hidden.
    max_keep: Most patches of the context; 0: no bound.
    complement: `"full"`: the target is all that the context lacks, also what was cut off to make rows
      equally long; `"target"`: the context is all that the target lacks; "" neither. V-JEPA 2.
    inverted: If True, context and target are exchanged. V-JEPA 2.
  """

  num_blocks: Size = 8
  spatial_scale: Range = (0.15, 0.15)
  temporal_scale: Range = (1.0, 1.0)
  aspect_ratio: Range = (0.75, 1.5)
  max_temporal_keep: Share = 1.0
  max_keep: Count = 0
  complement: Literal["", "full", "target"] = ""
  inverted: bool = False


@dataclass(kw_only=True)
class PredictorConfig:
  """The narrow network that predicts features of hidden patches.

  Attributes:
    dim: Width of a token.
    num_layers: Blocks.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs' hidden layer; 0: four times `dim`.
    num_mask_tokens: Learned tokens that stand for hidden patches.
  """

  dim: Size = 384
  num_layers: Layers = 12
  num_heads: Size = 16
  mlp_dim: Count = 0
  num_mask_tokens: Size = 2


@dataclass(kw_only=True)
class Config:
  """A vision transformer of tubelets, with its predictor.

  Attributes:
    num_frames: Frames of a clip.
    height: Rows of a frame.
    width: Columns of a frame.
    channels: Channels of a frame.
    patch: Rows and columns of a tubelet.
    tubelet: Frames of a tubelet.
    dim: Width of a token.
    num_layers: Blocks.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs' hidden layer; 0: four times `dim`.
    positions: `"table"`: fixed sines and cosines are added, version 1; `"rotary"`: queries and keys
      are rotated, version 2.
    uniform_power: If True, time, rows and columns have equal shares of the table, as released; if
      False, time has half of it.
    rotary_as_released: If True, sines and cosines are repeated as a whole, although the rotated
      pairs are neighbours, so that pairs are not rotated by one angle. The published weights of
      version 2 need that; default True.
    predictor: The predictor.
    masks: Sets of masks of pre-training.
    mean: Mean of the channels, subtracted: ImageNet's.
    std: Standard deviation of the channels.
  """

  num_frames: Size = 16
  height: Size = 224
  width: Size = 224
  channels: Size = 3
  patch: Size = 16
  tubelet: Size = 2
  dim: Size = 1024
  num_layers: Layers = 24
  num_heads: Size = 16
  mlp_dim: Count = 0
  positions: Literal["table", "rotary"] = "table"
  uniform_power: bool = True
  rotary_as_released: bool = True
  predictor: PredictorConfig
  masks: tuple[MaskConfig, ...] = (
    MaskConfig(),
    MaskConfig(num_blocks=2, spatial_scale=(0.7, 0.7)),
  )
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[Positive, ...] = (0.229, 0.224, 0.225)

  @property
  def grid(self) -> Sizes:
    """Tubelets over time, rows and columns."""
    return tubelet_grid(self.clip_sizes, self.tubelet_sizes)

  @property
  def clip_sizes(self) -> Sizes:
    """Frames, rows and columns of a clip."""
    return self.num_frames, self.height, self.width

  @property
  def tubelet_sizes(self) -> Sizes:
    """Frames, rows and columns of a tubelet."""
    return self.tubelet, self.patch, self.patch

  @property
  def table_numbers(self) -> int:
    """Numbers in the larger fixed table of positions."""
    return math.prod(self.grid) * max(self.dim, self.predictor.dim)


def check(config: Config) -> None:
  """Raises ValueError if a clip is no whole number of tubelets, or a width no multiple of heads."""
  c = config
  check_tubelets("vjepa", c.clip_sizes, c.tubelet_sizes)
  for what, dim, heads in (
    ("", c.dim, c.num_heads),
    ("predictor.", c.predictor.dim, c.predictor.num_heads),
  ):
    if dim % heads:
      raise ValueError(
        f"vjepa: {what}dim={dim} is not a multiple of {what}num_heads={heads}; change one of them."
      )
