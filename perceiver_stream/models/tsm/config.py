"""Sizes of TSM networks."""

from dataclasses import dataclass

from perceiver_stream.types import Count, Layers, Positive, Share, Size

MANY_BLOCKS = 23  # of the third stage; such networks shift in every second block, as released


@dataclass(kw_only=True)
class Config:
  """A residual network of images whose blocks first shift channels over time.

  Attributes:
    num_frames: Frames (segments) of the published clips.
    height: Rows of the published clips.
    width: Columns of the published clips.
    stem_channels: Channels of the stem.
    planes: Channels inside the blocks of each stage; their outputs have four times as many.
    layers: Blocks of each stage; `(3, 4, 6, 3)` is ResNet-50.
    fold_div: One of so many channels moves each way.
    num_classes: Width of the logits; 0 leaves the classifier out.
    dropout: Rate before the classifier, in training.
    norm_eps: Added to variances in batch norms.
    norm_momentum: Share of a batch in the running statistics.
    causal: If True, channels move from the past only (the online form of the paper), and the encoder
      runs frame by frame. It has other weights than the form that also reads the next frame.
    mean: Mean of RGB, subtracted.
    std: Standard deviation of RGB.
  """

  num_frames: Size = 8
  height: Size = 224
  width: Size = 224
  stem_channels: Size = 64
  planes: tuple[Size, ...] = (64, 128, 256, 512)
  layers: tuple[Layers, ...] = (3, 4, 6, 3)
  fold_div: Size = 8
  num_classes: Count = 400
  dropout: Share = 0.5
  norm_eps: Positive = 1e-5
  norm_momentum: Share = 0.1
  causal: bool = False
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
