"""Sizes of online TAPIR; defaults are the released BootsTAPIR with causal convolutions."""

import math
from dataclasses import dataclass

from perceiver_stream.types import Count, Layers, Positive, Size


@dataclass(kw_only=True)
class Config:
  """Sizes of online TAPIR.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    initial_size: Rows and columns at which the first guess is made, a multiple of 8; larger frames
      are refined at several sizes, up to their own.
    stem: Channels of the first convolution and the first group of the ResNet.
    high_dim: Channels of the features at a quarter of the size.
    middle_dim: Channels of the third group.
    low_dim: Channels of the features at an eighth of the size.
    num_extra: Extra blocks of convolutions on the latter: 5 in BootsTAPIR, 0 in TAPIR.
    mixer_dim: Width of the mixer over time.
    num_mixers: Blocks of the mixer.
    num_iterations: Refinements at each size.
    pyramid: Further levels of the features, each of half the size, in which a refinement looks.
    temperature: Factor of the logits of the first guess.
  """

  height: Size = 256
  width: Size = 256
  initial_size: tuple[Size, Size] = (256, 256)
  stem: Size = 64
  high_dim: Size = 128
  middle_dim: Size = 256
  low_dim: Size = 256
  num_extra: Layers = 5
  mixer_dim: Size = 512
  num_mixers: Layers = 12
  num_iterations: Size = 4
  pyramid: Count = 1
  temperature: Positive = 20.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    least = 8 * 2**self.pyramid
    for size in (self.initial_size, *self.refined_sizes()):
      if any(side % 8 or side < least for side in size):
        raise ValueError(
          f"tapir: a size of {size[0]}×{size[1]} is not a multiple of 8 of at least {least}; change "
          f"height, width, initial_size or pyramid."
        )

  def refined_sizes(self) -> list[tuple[int, int]]:
    """Returns the sizes of refinement, from the initial one to that of the frame.

    They are spaced by equal factors of at most two, and rounded down to multiples of 8.
    """
    full, first = (self.height, self.width), self.initial_size
    ratio = max(a / b for a, b in zip(full, first, strict=True))
    num = math.ceil(math.log2(ratio)) + 1 if full != first else 1
    if num <= 1:
      return [first]
    shares = [i / (num - 1) for i in range(num)]
    return [
      tuple(round(b * (a / b) ** share // 8) * 8 for a, b in zip(full, first, strict=True))
      for share in shares
    ]  # type: ignore[return-value]

  @property
  def output_dim(self) -> int:
    """Outputs of the mixer: offset, two logits, and features of both sizes."""
    return 4 + self.high_dim + self.low_dim
