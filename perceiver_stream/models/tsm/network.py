"""TSM: residual networks of images with a shift of channels over time in their blocks.

Source: mit-han-lab/temporal-shift-module, ops/{models,temporal_shift}.py. DeepMind's TSM-ResNet-V2
(`models.tsm_resnet`) shifts otherwise; weights do not fit each other.
"""

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.models.tsm.config import MANY_BLOCKS, Config
from perceiver_stream.nn.batch_norm import BatchNorm
from perceiver_stream.nn.conv3d import Conv3D, kaiming_normal, max_pool_3d
from perceiver_stream.nn.drop_path import dropout
from perceiver_stream.nn.layers import Linear
from perceiver_stream.nn.temporal_shift import order_preserving_shift
from perceiver_stream.nn.timeline import Timeline

Clips = Float[Array, "B T H W C"]
Filtered = Float[Array, "B T h w K"]


class NormedConv(hk.Module):
  """Convolution of every frame without a bias, then batch norm."""

  def __init__(self, dim: int, side: int, stride: int, config: Config, *, name: str):
    super().__init__(name=name)
    self.dim, self.side, self.stride, self.config = dim, side, stride, config

  def __call__(self, x: Clips, is_training: bool) -> Filtered:
    """Returns the result."""
    c, k, s = self.config, self.side, self.stride
    conv = Conv3D(
      self.dim, kernel=(1, k, k), stride=(1, s, s), w_init=kaiming_normal(), name="conv"
    )
    norm = BatchNorm(eps=c.norm_eps, momentum=c.norm_momentum, name="norm")
    return norm(conv(x, Timeline())[0], is_training)


class Bottleneck(hk.Module):
  """Convolutions 1×1, 3×3, 1×1 with a shortcut; the first reads shifted channels."""

  def __init__(self, planes: int, stride: int, shifts: bool, config: Config, *, name: str):
    super().__init__(name=name)
    self.planes, self.stride, self.shifts, self.config = planes, stride, shifts, config

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> Filtered:
    """Returns the block's output."""
    c, dim, y = self.config, 4 * self.planes, x
    if self.shifts:
      y = order_preserving_shift(y, timeline, c.fold_div, name=f"{self.module_name}/past")
    first = NormedConv(self.planes, 1, 1, c, name="shifted_conv1" if self.shifts else "conv1")
    y = jax.nn.relu(first(y, is_training))
    y = jax.nn.relu(NormedConv(self.planes, 3, self.stride, c, name="conv2")(y, is_training))
    y = NormedConv(dim, 1, 1, c, name="conv3")(y, is_training)
    if self.stride != 1 or x.shape[-1] != dim:
      x = NormedConv(dim, 1, self.stride, c, name="shortcut")(x, is_training)
    return jax.nn.relu(x + y)


class Tsm(hk.Module):
  """Stem, four stages, mean over space, linear classifier of every frame, mean over time."""

  def __init__(self, config: Config, *, name: str = "tsm"):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self, clips: Clips, timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs; parts `layer1` and so on are the stages' results."""
    c, parts = self.config, {}
    x = jax.nn.relu(NormedConv(c.stem_channels, 7, 2, c, name="stem")(clips, is_training))
    x, _ = max_pool_3d(
      x, Timeline(), kernel=(1, 3, 3), stride=(1, 2, 2), padding="half", name="pool"
    )
    every = 2 if c.layers[2] >= MANY_BLOCKS else 1
    for i, (planes, number) in enumerate(zip(c.planes, c.layers, strict=True)):
      for j in range(number):
        stride = 2 if i and not j else 1
        block = Bottleneck(planes, stride, j % every == 0, c, name=f"layer{i + 1}_{j}")
        x = block(x, timeline, is_training)
      parts[f"layer{i + 1}"] = x
    frames = jnp.mean(x, axis=(2, 3))
    pooled, logits = jnp.mean(frames, axis=1), None
    if c.num_classes:
      init = hk.initializers.RandomNormal(0.001)
      classify = Linear(c.num_classes, w_init=init, name="classifier")
      logits = jnp.mean(classify(dropout(frames, c.dropout, is_training)), axis=1)
    return outputs_of(x, pooled, logits, parts), timeline


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes."""
  c = config
  return as_clip_encoder(
    lambda: Tsm(c),
    c,
    ClipSpec.of(c),
    name="tsm",
    causal=c.causal,
    reason="Its shift takes channels from the next frame; build it with causal=True.",
  )
