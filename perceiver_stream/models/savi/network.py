"""SAVi: a frame encoder, competing slots, and a broadcast decoder."""

from dataclasses import dataclass, field
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_stream.core.slots import ReluMLP, SlotConfig, Slots, SlotState
from perceiver_stream.nn import Linear, coordinates
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.types import Size

Pair = tuple[Size, Size]


@dataclass(kw_only=True)
class Config:
  """Sizes of SAVi; defaults are SAVi-S with boxes as cues.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    slots: Sizes of the slots.
    channels: Channels of the encoder's convolutions.
    strides: Their strides.
    kernel: Rows and columns of the encoder's kernels.
    encoder_dim: Hidden width of the MLP over the encoder's cells.
    cue_dim: Hidden width of the MLP over boxes; 0 would be no cues, see `conditional`.
    conditional: Slots start from boxes; else from learned vectors.
    centres: Boxes are given by their centres only.
    canvas: Rows and columns to which slots are broadcast.
    decoder_channels: Channels of the decoder's convolutions.
    decoder_strides: Their strides.
    decoder_transposed: True where a convolution is transposed and enlarges by its stride.
    decoder_kernel: Rows and columns of the decoder's kernels.
    target_dim: Channels of the target, such as flow as RGB or pixels.
  """

  height: Size = 64
  width: Size = 64
  slots: SlotConfig = field(default_factory=SlotConfig)
  channels: tuple[Size, ...] = (32, 32, 32, 32)
  strides: tuple[Pair, ...] = ((1, 1),) * 4
  kernel: Size = 5
  encoder_dim: Size = 64
  cue_dim: Size = 256
  conditional: bool = True
  centres: bool = False
  canvas: Pair = (8, 8)
  decoder_channels: tuple[Size, ...] = (64, 64, 64, 64)
  decoder_strides: tuple[Pair, ...] = ((2, 2), (2, 2), (2, 2), (1, 1))
  decoder_transposed: tuple[bool, ...] = (True, True, True, False)
  decoder_kernel: Size = 5
  target_dim: Size = 3

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    for what, layers in (
      ("strides", "channels"),
      ("decoder_strides", "decoder_channels"),
      ("decoder_transposed", "decoder_channels"),
    ):
      given, wanted = len(getattr(self, what)), len(getattr(self, layers))
      if given != wanted:
        raise ValueError(f"savi: {given} {what} for {wanted} {layers}; give as many.")


class Decoded(NamedTuple):
  """Decoded slots.

  Attributes:
    target: Sum over slots of their targets, weighted by `shares`.
    shares: Share of each slot in each pixel.
    segmentation: Slot with the largest share.
  """

  target: Float[Array, "*T B H W C"]
  shares: Float[Array, "*T B S H W"]
  segmentation: Int[Array, "*T B H W"]


class Unrolled(NamedTuple):
  """Result of a video, `[T, B, ...]`.

  Attributes:
    states: Slots after and before prediction at each tick.
    attention: Share of each slot in each token, by head.
    prediction_attention: Attention between slots, by head.
  """

  states: SlotState
  attention: Float[Array, "T B M S N"]
  prediction_attention: Float[Array, "T B M S S"]


class Savi(hk.Module):
  """Frames to slots, and slots to masks and a target.

  Source: SAVi 2022, 2111.12594; google-research/slot-attention-video, `savi_conditional_small`.
  """

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "savi"):
    super().__init__(name=name)
    config.validate()
    self.config = config
    self.core = Slots(config.slots, name="slots")

  @hk.name_like("__call__")
  def encode(self, frames: Float[Array, "*T B H W 3"]) -> Float[Array, "*T B N C"]:
    """Returns a token for each cell."""
    c = self.config
    x = frames.reshape(-1, *frames.shape[-3:])
    for i, (dim, stride) in enumerate(zip(c.channels, c.strides, strict=True)):
      x = jax.nn.relu(Conv2D(dim, kernel=c.kernel, stride=stride, name=f"conv_{i}")(x))
    x = _with_positions(x, "encoder")
    x = ReluMLP(c.encoder_dim, x.shape[-1], pre_norm=True, name="encoder_mlp")(x)
    return x.reshape(*frames.shape[:-3], -1, x.shape[-1])

  @hk.name_like("__call__")
  def cued(self, boxes: Float[Array, "B S 4"]) -> Float[Array, "B K D"]:
    """Returns the first slots: one for the background, then one for each box.

    Args:
      boxes: (y0, x0, y1, x1) in [0, 1].
    """
    c = self.config
    boxes = jnp.concatenate([jnp.zeros_like(boxes[:, :1]), boxes], axis=1)
    if c.centres:
      boxes = (boxes[..., :2] + boxes[..., 2:]) / 2
    return ReluMLP(c.cue_dim, c.slots.dim, name="cue_mlp")(boxes)

  @hk.name_like("__call__")
  def decode(self, slots: Float[Array, "*T B S D"]) -> Decoded:
    """Returns the target and the masks of slots."""
    c, shape = self.config, slots.shape[:-1]
    flat = slots.reshape(-1, 1, 1, slots.shape[-1])
    x = jnp.broadcast_to(flat, (len(flat), *c.canvas, slots.shape[-1]))
    x = _with_positions(x, "decoder")
    for i, (dim, stride, transposed) in enumerate(
      zip(c.decoder_channels, c.decoder_strides, c.decoder_transposed, strict=True)
    ):
      name = f"decoder_conv_{i}"
      if transposed:
        x = TransposedConv2D(dim, c.decoder_kernel, stride, name=name)(x)
      else:
        product = c.decoder_kernel == 1  # its gradient is fast on a CPU
        x = Conv2D(dim, kernel=c.decoder_kernel, stride=stride, in_loop=product, name=name)(x)
      x = jax.nn.relu(x)
    logits = Linear(1, name="mask")(x)[..., 0].reshape(*shape, *x.shape[1:3])
    target = Linear(c.target_dim, name="target")(x).reshape(*shape, *x.shape[1:3], c.target_dim)
    axis = len(shape) - 1
    shares = jax.nn.softmax(logits, axis=axis)
    mixed = jnp.sum(target * shares[..., None], axis=axis)
    return Decoded(mixed, shares, jnp.argmax(logits, axis=axis).astype(jnp.int32))

  def __call__(self, frames: Float[Array, "T B H W 3"], slots: Float[Array, "B S D"]) -> Unrolled:
    """Returns the slots of a video from those before its first frame."""

    def tick(before: Array, tokens: Array) -> tuple[Array, Unrolled]:
      corrected, attention = self.core.correct(before, tokens)
      predicted, between = self.core.predict(corrected)
      return predicted, Unrolled(SlotState(predicted, corrected), attention, between)

    return hk.scan(tick, slots, self.encode(frames))[1]


class TransposedConv2D(hk.Module):
  """Transposed convolution with 'SAME' padding, which enlarges by its stride."""

  def __init__(self, output_dim: int, kernel: int, stride: Pair, *, name: str):
    super().__init__(name=name)
    self.output_dim, self.kernel, self.stride = output_dim, kernel, stride

  def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B H W K"]:
    """Returns the enlarged features."""
    shape = (self.kernel, self.kernel, x.shape[-1], self.output_dim)
    w = hk.get_parameter("w", shape, jnp.float32, hk.initializers.VarianceScaling())
    numbers = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_transpose(x, w, self.stride, "SAME", dimension_numbers=numbers)
    return y + broadcast(hk.get_parameter("b", shape[-1:], jnp.float32, jnp.zeros), y)


def _with_positions(x: Float[Array, "B h w C"], name: str) -> Float[Array, "B h w C"]:
  """Returns cells plus a linear map of their position in [-1, 1]; the grid is stored, not trained."""
  grid = coordinates(x.shape[1:3], "inclusive").reshape(*x.shape[1:3], 2).astype(np.float32)
  table = hk.get_parameter(
    f"{name}_positions", grid.shape, jnp.float32, lambda shape, dtype: jnp.asarray(grid, dtype)
  )
  places = Linear(x.shape[-1], name=f"{name}_position")(jax.lax.stop_gradient(table))
  return x + jnp.broadcast_to(places, x.shape)
