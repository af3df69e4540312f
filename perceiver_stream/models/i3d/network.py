"""I3D: Inception-v1 whose kernels and pools extend over time.

Source: google-deepmind/kinetics-i3d, i3d.py. Padding is TensorFlow's in space and time, so a static
clip gives the image network's features only away from its ends (`nn.conv3d.inflate`).
"""

from typing import NamedTuple

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
from perceiver_stream.models.i3d.config import Config
from perceiver_stream.nn.batch_norm import BatchNorm
from perceiver_stream.nn.conv3d import Conv3D, Triple, max_pool_3d
from perceiver_stream.nn.drop_path import dropout
from perceiver_stream.nn.layers import Linear
from perceiver_stream.nn.timeline import Timeline

Clips = Float[Array, "B T H W C"]
Filtered = Float[Array, "B t h w K"]


class Widths(NamedTuple):
  """Output channels of a block's convolutions: alone, before and in the two 3×3×3, after the pool."""

  single: int
  before: int
  large: int
  before_small: int
  small: int
  pooled: int


class Pool(NamedTuple):
  """Maxima over windows of frames and pixels."""

  kernel: Triple
  stride: Triple


MIXED: dict[str, Widths | Pool] = {
  "pool_3a": Pool((1, 3, 3), (1, 2, 2)),
  "mixed_3b": Widths(64, 96, 128, 16, 32, 32),
  "mixed_3c": Widths(128, 128, 192, 32, 96, 64),
  "pool_4a": Pool((3, 3, 3), (2, 2, 2)),
  "mixed_4b": Widths(192, 96, 208, 16, 48, 64),
  "mixed_4c": Widths(160, 112, 224, 24, 64, 64),
  "mixed_4d": Widths(128, 128, 256, 24, 64, 64),
  "mixed_4e": Widths(112, 144, 288, 32, 64, 64),
  "mixed_4f": Widths(256, 160, 320, 32, 128, 128),
  "pool_5a": Pool((2, 2, 2), (2, 2, 2)),
  "mixed_5b": Widths(256, 160, 320, 32, 128, 128),
  "mixed_5c": Widths(384, 192, 384, 48, 128, 128),
}


class Unit(hk.Module):
  """Convolution without a bias, batch norm without a scale, ReLU."""

  def __init__(self, dim: int, side: int, stride: int, config: Config, *, name: str):
    super().__init__(name=name)
    self.dim, self.side, self.stride = max(dim // config.divisor, 1), side, stride
    self.config = config

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> tuple[Filtered, Timeline]:
    """Returns the result and its timeline."""
    c, k, s = self.config, self.side, self.stride
    conv = Conv3D(self.dim, kernel=(k, k, k), stride=(s, s, s), padding="same", name="conv")
    x, timeline = conv(x, timeline)
    norm = BatchNorm(
      eps=c.norm_eps, momentum=c.norm_momentum, unbiased=False, use_scale=False, name="norm"
    )
    return jax.nn.relu(norm(x, is_training)), timeline


class Mixed(hk.Module):
  """Four branches side by side."""

  def __init__(self, widths: Widths, config: Config, *, name: str):
    super().__init__(name=name)
    self.widths, self.config = widths, config

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> Filtered:
    """Returns the joined branches, on the same timeline."""
    c, w = self.config, self.widths
    unit = lambda x, dim, side, name: Unit(dim, side, 1, c, name=name)(x, timeline, is_training)[0]  # noqa: E731
    pooled, _ = max_pool_3d(
      x,
      timeline,
      kernel=(3, 3, 3),
      stride=(1, 1, 1),
      padding="same",
      name=f"{self.module_name}/pool",
    )
    branches = [
      unit(x, w.single, 1, "branch0_a"),
      unit(unit(x, w.before, 1, "branch1_a"), w.large, 3, "branch1_b"),
      unit(unit(x, w.before_small, 1, "branch2_a"), w.small, 3, "branch2_b"),
      unit(pooled, w.pooled, 1, "branch3_b"),
    ]
    return jnp.concatenate(branches, axis=-1)


class I3D(hk.Module):
  """Stem, nine mixed blocks with pools between them, classifier."""

  def __init__(self, config: Config, *, name: str = "i3d"):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self, clips: Clips, timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs; parts are the results of the blocks by name, such as `mixed_5c`."""
    c, parts = self.config, {}
    x, timeline = Unit(64, 7, 2, c, name="conv_1a")(clips, timeline, is_training)
    x, timeline = self._pool(x, timeline, Pool((1, 3, 3), (1, 2, 2)), "pool_2a")
    x, timeline = Unit(64, 1, 1, c, name="conv_2b")(x, timeline, is_training)
    x, timeline = Unit(192, 3, 1, c, name="conv_2c")(x, timeline, is_training)
    for name, block in MIXED.items():
      if isinstance(block, Pool):
        x, timeline = self._pool(x, timeline, block, name)
      else:
        x = Mixed(block, c, name=name)(x, timeline, is_training)
        parts[name] = x
      if name == c.final_endpoint:
        break
    pooled = self._pooled(x)
    logits = None
    if c.num_classes:
      logits = Linear(c.num_classes, name="classifier")(dropout(pooled, c.dropout, is_training))
    return outputs_of(x, pooled, logits, parts), timeline

  @hk.name_like("__call__")
  def _pool(self, x: Clips, timeline: Timeline, pool: Pool, name: str) -> tuple[Filtered, Timeline]:
    name = f"{self.module_name}/{name}"
    return max_pool_3d(
      x, timeline, kernel=pool.kernel, stride=pool.stride, padding="same", name=name
    )

  @hk.name_like("__call__")
  def _pooled(self, x: Clips) -> Float[Array, "B C"]:
    """Returns the mean over windows of two times, as released; the ends count half."""
    mean = jnp.mean(x, axis=(2, 3))
    windows = (mean[:, 1:] + mean[:, :-1]) / 2 if mean.shape[1] > 1 else mean
    return jnp.mean(windows, axis=1)


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes."""
  c = config
  return as_clip_encoder(
    lambda: I3D(c),
    c,
    ClipSpec.of(c, channels=c.channels),
    name="i3d",
    causal=c.causal,
    reason="Its kernels and pools read later frames; build it with causal=True.",
  )
