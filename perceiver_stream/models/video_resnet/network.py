"""R(2+1)D, MC3 and R3D: residual networks of basic blocks over space and time."""

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
from perceiver_stream.models.video_resnet.config import Config
from perceiver_stream.nn.batch_norm import BatchNorm
from perceiver_stream.nn.conv3d import Conv3D, Triple, kaiming_normal
from perceiver_stream.nn.layers import Linear
from perceiver_stream.nn.timeline import Timeline

Clips = Float[Array, "B T H W C"]
Filtered = Float[Array, "B t h w K"]


def middle_channels(inputs: int, planes: int) -> int:
  """Returns the channels between the two convolutions of a (2+1)-D one.

  So many that both have the parameters of a 3×3×3 convolution from `inputs` to `planes`. The
  released code computes it once per block and uses it for the second convolution too, whose inputs
  are `planes`; the paper matches each convolution.
  """
  return 27 * inputs * planes // (9 * inputs + 3 * planes)


class NormedConv(hk.Module):
  """Convolution and batch norm, as one (2+1)-D pair or a single kernel.

  Args:
    output_dim: Output channels.
    mid: Channels between the convolutions over space and over time; 0: one convolution.
    kernel: Frames, rows, columns.
    stride: Frames, rows, columns.
    config: Options of the norms.
    name: Haiku name.
  """

  def __init__(
    self, output_dim: int, mid: int, kernel: Triple, stride: Triple, config: Config, *, name: str
  ):
    super().__init__(name=name)
    self.output_dim, self.mid = output_dim, mid
    self.kernel, self.stride = kernel, stride
    self.config = config

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> tuple[Filtered, Timeline]:
    """Returns the normalised result and its timeline."""
    (t, h, w), (s, down, across) = self.kernel, self.stride
    if not self.mid:
      x, timeline = self._conv(self.output_dim, self.kernel, self.stride, "conv")(x, timeline)
      return self._norm("norm")(x, is_training), timeline
    spatial = self._conv(self.mid, (1, h, w), (1, down, across), "spatial")
    x, timeline = spatial(x, timeline)
    x = jax.nn.relu(self._norm("mid_norm")(x, is_training))
    temporal = self._conv(self.output_dim, (t, 1, 1), (s, 1, 1), "temporal")
    x, timeline = temporal(x, timeline)
    return self._norm("norm")(x, is_training), timeline

  @hk.name_like("__call__")
  def _conv(self, dim: int, kernel: Triple, stride: Triple, name: str) -> Conv3D:
    return Conv3D(dim, kernel=kernel, stride=stride, w_init=kaiming_normal(), name=name)

  @hk.name_like("__call__")
  def _norm(self, name: str) -> BatchNorm:
    c = self.config
    return BatchNorm(eps=c.norm_eps, momentum=c.norm_momentum, name=name)


class BasicBlock(hk.Module):
  """Two convolutions with a shortcut, which is convolved where the shape changes."""

  def __init__(self, planes: int, stride: int, first_stage: bool, config: Config, *, name: str):
    super().__init__(name=name)
    self.planes, self.stride, self.config = planes, stride, config
    self.flat = config.kind == "mc3" and not first_stage

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> tuple[Filtered, Timeline]:
    """Returns the block's output and its timeline."""
    c, inputs = self.config, x.shape[-1]
    time = 1 if self.flat else self.stride
    kernel, stride = (1 if self.flat else 3, 3, 3), (time, self.stride, self.stride)
    mid = middle_channels(inputs, self.planes) if c.kind == "r2plus1d" else 0
    conv = lambda stride, name: NormedConv(self.planes, mid, kernel, stride, c, name=name)  # noqa: E731
    y, after = conv(stride, "conv1")(x, timeline, is_training)
    y, after = conv((1, 1, 1), "conv2")(jax.nn.relu(y), after, is_training)
    if self.stride != 1 or inputs != self.planes:
      shortcut = NormedConv(self.planes, 0, (1, 1, 1), stride, c, name="shortcut")
      x, _ = shortcut(x, timeline, is_training)
    return jax.nn.relu(y + x), after


class VideoResNet(hk.Module):
  """Stem, four stages, mean over space and time, linear classifier."""

  def __init__(self, config: Config, *, name: str = "video_resnet"):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self, clips: Clips, timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs; parts `stem` and `layer1` and so on are the stages' results."""
    c = self.config
    mid = c.stem_mid_channels if c.kind == "r2plus1d" else 0
    stem = NormedConv(c.stem_channels, mid, (3, 7, 7), (1, 2, 2), c, name="stem")
    x, timeline = stem(clips, timeline, is_training)
    x = jax.nn.relu(x)
    parts = {"stem": x}
    for i, (planes, number) in enumerate(zip(c.planes, c.layers, strict=True)):
      for j in range(number):
        stride = 2 if i and not j else 1
        block = BasicBlock(planes, stride, i == 0, c, name=f"layer{i + 1}_{j}")
        x, timeline = block(x, timeline, is_training)
      parts[f"layer{i + 1}"] = x
    pooled = jnp.mean(x, axis=(1, 2, 3))
    return outputs_of(x, pooled, self._logits(pooled), parts), timeline

  @hk.name_like("__call__")
  def _logits(self, pooled: Float[Array, "B D"]) -> Float[Array, "B K"] | None:
    normal = hk.initializers.RandomNormal(0.01)
    size = self.config.num_classes
    return Linear(size, w_init=normal, name="classifier")(pooled) if size else None


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes."""
  c = config
  return as_clip_encoder(
    lambda: VideoResNet(config),
    config,
    ClipSpec.of(c),
    name=f"video_resnet ({config.kind})",
    causal=config.causal,
    reason="Its convolutions over time read later frames; build it with causal=True.",
  )
