"""Sizes of S3D-G."""

from dataclasses import dataclass

from perceiver_stream.models.i3d.config import Endpoint
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Sizes of the tower.

  Attributes:
    divisor: Every number of channels is divided by it.
    space_to_depth: If True, 2×2×2 blocks of pixels become the channels of one, and the first kernel is
      2×4×4 without a stride, as in the released weights; else it has a stride of 2.
    first_frames: Frames of the first kernel without `space_to_depth`: 1, 3, 5 or 7.
    final_endpoint: Last block, such as `"mixed_4f"`.
  """

  divisor: Size = 1
  space_to_depth: bool = True
  first_frames: Size = 7
  final_endpoint: Endpoint = "mixed_5c"

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.first_frames not in (1, 3, 5, 7):
      raise ValueError(f"s3d: first_frames={self.first_frames} is none of 1, 3, 5 and 7.")


@dataclass(kw_only=True)
class ClipConfig(Config):
  """Sizes of a tower that stands alone, an encoder of clips.

  Attributes:
    num_frames: Frames of the published clips.
    height: Rows of the published clips.
    width: Columns of the published clips.
  """

  num_frames: Size = 32
  height: Size = 224
  width: Size = 224
