"""Sizes of MooG; defaults are the published Ego4D checkpoint."""

from dataclasses import dataclass, field

from perceiver_stream.types import Layers, NonNegative, Octaves, Positive, Size, Ticks


@dataclass(kw_only=True)
class StackConfig:
  """Sizes of a `Stack` of MooG's parallel blocks."""

  num_layers: Layers
  qkv_dim: Size = 512
  num_heads: Size = 8
  mlp_dim: Size = 2048


@dataclass(kw_only=True)
class EncoderConfig:
  """Sizes of the frame encoder; defaults are the published checkpoint's.

  Attributes:
    channels: Of each convolution.
    strides: Of each convolution.
    kernels: Of each convolution; None is 3×3.
    normalise: Whether a norm follows the convolutions.
    hidden_dim: Width of the dense layer behind the positions.
    num_octaves: Octaves of the positions.
    add_positions: Whether positions are projected and added; else they stand beside the features.
  """

  channels: tuple[Size, ...] = (64, 128, 128, 256, 256, 512)
  strides: tuple[Size | tuple[Size, ...], ...] = (2, 1, 1, 2, 1, 1)
  kernels: tuple[Size | tuple[Size, ...], ...] | None = None
  normalise: bool = True
  hidden_dim: Size = 512
  num_octaves: Octaves = 20
  add_positions: bool = False


@dataclass(kw_only=True)
class DecoderConfig:
  """Sizes of a dense decoder: pixels, or depth.

  Attributes:
    stack: Its blocks.
    num_octaves: Octaves of the positions of the queries.
    add_positions: See `EncoderConfig`.
    use_self: Whether queries attend to each other (the notebook's decoder class; then an answer
      depends on what else is asked).
    chunk: Most queries (rows × queries) answered at once, if they do not attend to each other.
  """

  stack: StackConfig = field(
    default_factory=lambda: StackConfig(num_layers=6, qkv_dim=128, num_heads=2)
  )
  num_octaves: Octaves = 16
  add_positions: bool = False
  use_self: bool = False
  chunk: Size = 2**15


@dataclass(kw_only=True)
class Config:
  """Sizes of MooG; defaults are the published Ego4D checkpoint.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    channels: Channels of a frame; under the contract of every model three, RGB.
    num_latents: Latents.
    latent_dim: Width of a latent.
    init_scale: Standard deviation of the state before the first frame.
    state_eps: Added to the variance where the state is normalised.
    norm_first: Whether the state is normalised before a step (checkpoint) or after (training code).
    encoder: Of frames.
    predictor: Self-attention blocks.
    corrector: Self and cross-attention blocks.
    decoder: Of pixels; None for a file of latents only.
    use_loss_gradient: Whether the corrector starts from the prediction together with the gradient
      of its error.
    sample: Every how many rows and columns are decoded to train.
    displacements: Ticks ahead that are predicted.
    float32_positions: Whether tables are rounded as in the released code; else made in float64.
    remat: Whether ticks are recomputed in the backward pass.
  """

  height: Size = 256
  width: Size = 256
  channels: Size = 3
  num_latents: Size = 1024
  latent_dim: Size = 512
  init_scale: NonNegative = 1e-4
  state_eps: Positive = 1e-4
  norm_first: bool = True
  encoder: EncoderConfig = field(default_factory=EncoderConfig)
  predictor: StackConfig = field(
    default_factory=lambda: StackConfig(num_layers=3, qkv_dim=256, num_heads=4)
  )
  corrector: StackConfig = field(default_factory=lambda: StackConfig(num_layers=2))
  decoder: DecoderConfig | None = field(default_factory=DecoderConfig)
  use_loss_gradient: bool = False
  sample: Size = 8
  displacements: tuple[Ticks, ...] = (1,)
  float32_positions: bool = True
  remat: bool = True
