"""Sizes of SlowFast networks."""

from dataclasses import dataclass

from perceiver_stream.types import Count, Layers, Positive, Share, Size


@dataclass(kw_only=True)
class Config:
  """Two residual networks of bottlenecks: a slow wide one and a fast narrow one.

  Attributes:
    num_frames: Frames of a clip, all read by the fast pathway; a multiple of `alpha`.
    height: Rows for which the head averages over whole maps; larger clips give several positions.
    width: Columns, likewise.
    channels: Channels of the slow stem; stages have 4, 8, 16, 32 times as many.
    alpha: Frames of the fast pathway for each of the slow one.
    beta_inv: Channels of the slow pathway for each of the fast one.
    fusion_ratio: Channels of a lateral connection for each of the fast pathway.
    fusion_kernel: Frames of the kernel of lateral connections.
    blocks: Blocks of each stage.
    slow_kernels: Frames of the kernels of the slow stem and of each stage.
    fast_kernels: Those of the fast pathway.
    num_classes: Width of the logits; 0 leaves the classifier out.
    dropout: Rate before the classifier, in training.
    norm_eps: Added to variances in batch norms.
    norm_momentum: Share of a batch in the running statistics.
    causal: If True, convolutions over time read the past only, the slow pathway reads frames 0,
      `alpha`, 2 `alpha` and so on, and the encoder runs frame by frame: the slow pathway is computed
      at these ticks only, and its newest features are held in between.
    mean: Mean of RGB, subtracted.
    std: Standard deviation of RGB.
  """

  num_frames: Size = 32
  height: Size = 224
  width: Size = 224
  channels: Size = 64
  alpha: Size = 4
  beta_inv: Size = 8
  fusion_ratio: Size = 2
  fusion_kernel: Size = 7
  blocks: tuple[Layers, ...] = (3, 4, 6, 3)
  slow_kernels: tuple[Size, ...] = (1, 1, 1, 3, 3)
  fast_kernels: tuple[Size, ...] = (5, 3, 3, 3, 3)
  num_classes: Count = 400
  dropout: Share = 0.5
  norm_eps: Positive = 1e-5
  norm_momentum: Share = 0.1
  causal: bool = False
  mean: tuple[float, ...] = (0.45,)
  std: tuple[Positive, ...] = (0.225,)

  def validate(self) -> None:
    """Checks combinations of fields; raises ValueError."""
    if self.num_frames % self.alpha:
      raise ValueError(
        f"slowfast: num_frames={self.num_frames} is no multiple of alpha={self.alpha}."
      )
    if self.channels % self.beta_inv:
      raise ValueError(
        f"slowfast: channels={self.channels} is no multiple of beta_inv={self.beta_inv}."
      )
