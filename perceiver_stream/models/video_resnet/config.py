"""Sizes of the video ResNets."""

from dataclasses import dataclass
from typing import Literal

from perceiver_stream.types import Count, Layers, Positive, Share, Size


@dataclass(kw_only=True)
class Config:
  """A residual network of basic blocks in four stages.

  Attributes:
    kind: `"r2plus1d"`: each 3×3×3 convolution is one over space and one over time; `"mc3"`: 3-D in
      stem and first stage, then 2-D; `"r3d"`: 3-D.
    stem_channels: Channels of the stem.
    stem_mid_channels: Channels between the two convolutions of the stem of `"r2plus1d"`.
    planes: Channels of each stage.
    layers: Blocks of each stage.
    num_classes: Width of the logits; 0 leaves the classifier out.
    causal: If True, convolutions over time read the past only, and the encoder runs frame by frame.
      Weights are those of the other form, results differ.
    norm_eps: Added to variances in batch norms.
    norm_momentum: Share of a batch in the running statistics.
    num_frames: Frames of the published clips.
    height: Rows of the published clips.
    width: Columns of the published clips.
    mean: Mean of RGB, subtracted.
    std: Standard deviation of RGB.
  """

  kind: Literal["r2plus1d", "mc3", "r3d"] = "r2plus1d"
  stem_channels: Size = 64
  stem_mid_channels: Size = 45
  planes: tuple[Size, ...] = (64, 128, 256, 512)
  layers: tuple[Layers, ...] = (2, 2, 2, 2)
  num_classes: Count = 400
  causal: bool = False
  norm_eps: Positive = 1e-5
  norm_momentum: Share = 0.1
  num_frames: Size = 16
  height: Size = 112
  width: Size = 112
  mean: tuple[float, ...] = (0.43216, 0.394666, 0.37645)
  std: tuple[Positive, ...] = (0.22803, 0.22145, 0.216989)
