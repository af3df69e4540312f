"""Sizes of TimeSformer."""

from dataclasses import dataclass
from typing import Literal

from perceiver_stream.types import Count, Layers, Positive, Share, Size


@dataclass(kw_only=True)
class Config:
  """A vision transformer over the patches of every frame, with a class token.

  Attributes:
    kind: `"divided_space_time"`: each block attends over time, then over space;
      `"joint_space_time"`: all tokens attend to all; `"space_only"`: within frames, and the class
      tokens are averaged over time.
    num_frames: Times in the table of positions in time. Clips of other lengths use the nearest.
    height: Rows for which there are positions; other sizes of clips use the nearest.
    width: Columns for which there are positions.
    patch: Side of a patch.
    dim: Width of the tokens.
    num_layers: Blocks.
    num_heads: Attention heads.
    mlp_dim: Width of the MLPs' hidden layers.
    num_classes: Width of the logits; 0 leaves the classifier out.
    dropout: Rate in training, of positions, MLPs and projections.
    drop_path: Rate of left-out branches in the last block, growing linearly over the blocks.
    norm_eps: Added to variances in layer norms.
    causal: If True, attention over time is masked, every frame has a class token of its own, which
      is not averaged over time in the blocks, and the encoder runs frame by frame. Positions in
      time repeat after `num_frames`.
    memory: Frames that a causal token attends to; 0: `num_frames`.
    mean: Mean of RGB, subtracted.
    std: Standard deviation of RGB.
  """

  kind: Literal["divided_space_time", "joint_space_time", "space_only"] = "divided_space_time"
  num_frames: Size = 8
  height: Size = 224
  width: Size = 224
  patch: Size = 16
  dim: Size = 768
  num_layers: Layers = 12
  num_heads: Size = 12
  mlp_dim: Size = 3072
  num_classes: Count = 400
  dropout: Share = 0.0
  drop_path: Share = 0.0
  norm_eps: Positive = 1e-6
  causal: bool = False
  memory: Count = 0
  mean: tuple[float, ...] = (0.45,)
  std: tuple[Positive, ...] = (0.225,)

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of the table of positions."""
    return self.height // self.patch, self.width // self.patch

  def validate(self) -> None:
    """Checks combinations of fields; raises ValueError."""
    if not all(self.grid):
      raise ValueError(
        f"timesformer: frames of {self.height} × {self.width} have no patch of side {self.patch}."
      )
    if self.memory > self.num_frames:
      raise ValueError(
        f"timesformer: memory={self.memory} frames, but there are positions for "
        f"{self.num_frames}; use at most those, or more num_frames."
      )
