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
    channels: Output channels of each convolution.
    strides: Stride of each convolution.
    kernels: Kernel size of each convolution; None: 3×3.
    normalise: If True, a norm follows the convolutions.
    hidden_dim: Width of the dense layer after the positions.
    num_octaves: Octaves of the positions.
    add_positions: If True, positions are projected and added; else they are concatenated.
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
    stack: Sizes of its blocks.
    num_octaves: Octaves of the positions of the queries.
    add_positions: See `EncoderConfig`.
    use_self: If True, queries attend to each other, as in the notebook's decoder class; an output
      then depends on the other queries.
    chunk: Maximum number of queries (rows × queries) decoded at once, without self-attention.
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
    channels: Channels of a frame; the common model contract needs three, RGB.
    num_latents: Number of latents.
    latent_dim: Width of a latent.
    init_scale: Standard deviation of the state before the first frame.
    state_eps: Added to the variance when the state is normalised.
    norm_first: If True, the state is normalised before a step (checkpoint), else after it (training
      code).
    encoder: Frame encoder.
    predictor: Self-attention blocks.
    corrector: Self and cross-attention blocks.
    decoder: Pixel decoder; None for a file that has latents only.
    use_loss_gradient: If True, the corrector also reads the gradient of the prediction's error.
    sample: Stride of the pixels that are decoded in training, in rows and columns.
    displacements: Ticks ahead that are predicted.
    float32_positions: If True, tables are rounded as in the released code; else computed in
      float64.
    remat: If True, ticks are recomputed in the backward pass.
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
