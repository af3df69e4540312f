"""Sizes of pre-activation ResNets for clips (with temporal shifts) and for log-mel spectrograms."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from perceiver_stream.types import Range, Share, Size

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


@dataclass(kw_only=True)
class Config:
  """Sizes of one tower; the defaults are those of ResNet-50 V2.

  Attributes:
    stem_channels: Channels after the 7×7 stem.
    stage_channels: Output channels of each stage.
    stage_blocks: Blocks of each stage; see `DEPTHS`.
    stage_strides: Stride of the first block of each stage.
    bottleneck: Ratio of a block's output channels to those of its 3×3 convolution.
    shift_share: Channels that come from the next frame, and as many from the previous one, as a share;
      0: none, for images and spectrograms.
    project_first: If True, the first block of every stage has a convolution on its shortcut;
      otherwise only a block whose number of channels changes, as in the released audio tower, where a
      stride with equal channels is refused.
  """

  stem_channels: Size = 64
  stage_channels: tuple[Size, ...] = (256, 512, 1024, 2048)
  stage_blocks: tuple[Size, ...] = DEPTHS[50]
  stage_strides: tuple[Size, ...] = (1, 2, 2, 2)
  bottleneck: Annotated[int, Range(1, 64)] = 4
  shift_share: Share = 0.125
  project_first: bool = True

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    sizes = {len(self.stage_channels), len(self.stage_blocks), len(self.stage_strides)}
    if len(sizes) != 1 or not self.stage_channels:
      raise ValueError(
        f"tsm_resnet: stage_channels={self.stage_channels}, stage_blocks={self.stage_blocks} and "
        f"stage_strides={self.stage_strides} must have one entry for each stage."
      )
    before = (self.stem_channels, *self.stage_channels)
    for i, (old, new, stride) in enumerate(
      zip(before, self.stage_channels, self.stage_strides, strict=False)
    ):
      if not self.project_first and stride != 1 and old == new:
        raise ValueError(
          f"tsm_resnet: stage {i} has stride {stride} and keeps {new} channels, so its shortcut has no "
          f"convolution that could stride; change the channels, or set project_first=True."
        )

  def widened(self, factor: int) -> "Config":
    """Returns this config with `factor` times the channels."""
    channels = tuple(factor * c for c in self.stage_channels)
    stem = factor * self.stem_channels
    return dataclasses.replace(self, stem_channels=stem, stage_channels=channels)


def audio_config() -> Config:
  """Returns the sizes of the audio tower: ResNet-50 V2 without shifts."""
  return Config(shift_share=0.0, project_first=False)


@dataclass(kw_only=True)
class ClipConfig(Config):
  """Sizes of a tower that stands alone, an encoder of clips.

  Attributes:
    num_frames: Frames of the published clips.
    height: Rows of the published clips.
    width: Columns of the published clips.
  """

  num_frames: Size = 16
  height: Size = 224
  width: Size = 224
