"""Sizes of I3D."""

from dataclasses import dataclass
from typing import Literal

from perceiver_stream.types import Count, Positive, Share, Size

Endpoint = Literal[
  "mixed_3b",
  "mixed_3c",
  "mixed_4b",
  "mixed_4c",
  "mixed_4d",
  "mixed_4e",
  "mixed_4f",
  "mixed_5b",
  "mixed_5c",
]


@dataclass(kw_only=True)
class Config:
  """Inception-v1 inflated to space and time.

  Attributes:
    num_frames: Frames of the published clips.
    height: Rows of the published clips.
    width: Columns of the published clips.
    channels: 3 for RGB, 2 for optical flow.
    divisor: Every number of channels is divided by it.
    final_endpoint: Last block, such as `"mixed_4f"`; the classifier follows it.
    num_classes: Width of the logits; 0 leaves the classifier out.
    dropout: Rate before the classifier, in training.
    norm_eps: Added to variances in batch norms, which have no scale.
    norm_momentum: Share of a batch in the running statistics.
    causal: If True, convolutions and maxima over time read the past only, and the encoder runs
      frame by frame; with the last block its features change every eighth frame.
    mean: Mean of the channels, subtracted.
    std: Standard deviation of the channels.
  """

  num_frames: Size = 64
  height: Size = 224
  width: Size = 224
  channels: Size = 3
  divisor: Size = 1
  final_endpoint: Endpoint = "mixed_5c"
  num_classes: Count = 400
  dropout: Share = 0.0
  norm_eps: Positive = 1e-3
  norm_momentum: Share = 0.1
  causal: bool = False
  mean: tuple[float, ...] = (0.5,)
  std: tuple[Positive, ...] = (0.5,)
