"""SlowFast: a slow pathway of few frames and a fast one of all, with lateral connections.

Source: facebookresearch/SlowFast, slowfast/models/{video_model_builder,resnet_helper,stem_helper,
head_helper}.py. Differs: logits are those of the mean over positions; the released evaluation, the
mean of the softmax of each position, is the part `probabilities`.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.models.slowfast.config import Config
from perceiver_stream.nn.batch_norm import BatchNorm
from perceiver_stream.nn.conv3d import Conv3D, Triple, kaiming_normal, max_pool_3d
from perceiver_stream.nn.drop_path import dropout
from perceiver_stream.nn.layers import Linear
from perceiver_stream.nn.timeline import Timeline

Clips = Float[Array, "B T H W C"]
Filtered = Float[Array, "B t h w K"]
Slow = Float[Array, "B S H W C"]
SlowOut = Float[Array, "B S h w K"]
Fast = Float[Array, "B T H W F"]
FastOut = Float[Array, "B T h w G"]


class NormedConv(hk.Module):
  """Convolution without a bias, then batch norm."""

  def __init__(
    self, dim: int, kernel: Triple, stride: Triple, config: Config, *, zero: bool = False, name: str
  ):
    super().__init__(name=name)
    self.dim, self.kernel, self.stride = dim, kernel, stride
    self.config, self.zero = config, zero

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> tuple[Filtered, Timeline]:
    """Returns the result and its timeline; with `zero` the scale starts at zero."""
    c, init = self.config, kaiming_normal()
    conv = Conv3D(self.dim, kernel=self.kernel, stride=self.stride, w_init=init, name="conv")
    x, timeline = conv(x, timeline)
    scale = jnp.zeros if self.zero else None
    norm = BatchNorm(eps=c.norm_eps, momentum=c.norm_momentum, scale_init=scale, name="norm")
    return norm(x, is_training), timeline


class Bottleneck(hk.Module):
  """Convolutions t×1×1, 1×3×3, 1×1×1 with a shortcut, which is convolved where the shape changes."""

  def __init__(self, inner: int, frames: int, stride: int, config: Config, *, name: str):
    super().__init__(name=name)
    self.inner, self.frames, self.stride, self.config = inner, frames, stride, config

  def __call__(self, x: Clips, timeline: Timeline, is_training: bool) -> Filtered:
    """Returns the block's output, on the same timeline."""
    c, step, dim = self.config, (1, self.stride, self.stride), 4 * self.inner
    a = NormedConv(self.inner, (self.frames, 1, 1), (1, 1, 1), c, name="a")
    b = NormedConv(self.inner, (1, 3, 3), step, c, name="b")
    last = NormedConv(dim, (1, 1, 1), (1, 1, 1), c, zero=True, name="c")
    y = jax.nn.relu(a(x, timeline, is_training)[0])
    y = jax.nn.relu(b(y, timeline, is_training)[0])
    y = last(y, timeline, is_training)[0]
    if x.shape[-1] != dim or self.stride != 1:
      x = NormedConv(dim, (1, 1, 1), step, c, name="shortcut")(x, timeline, is_training)[0]
    return jax.nn.relu(x + y)


class SlowFast(hk.Module):
  """Stems, four stages of both pathways with connections from fast to slow, and the head."""

  def __init__(self, config: Config, *, name: str = "slowfast"):
    super().__init__(name=name)
    config.validate()
    self.config = config

  def __call__(
    self, clips: Clips, timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs.

    Features have the slow pathway's channels, then the fast one's. They have the slow pathway's
    times, over which the fast one is averaged; causal ones have all times, and the slow pathway's
    are held. Parts: `s1_0` (stem, slow), `s1_fuse_0` and so on, both pathways of each stage before
    and after fusion, and `probabilities`.
    """
    c = self.config
    lines = (timeline.every(f"{self.module_name}/slow", c.alpha), timeline)
    slow = clips if timeline.memory is not None else clips[:, self._slow_frames(clips.shape[1])]
    paths, parts = self._stems((slow, clips), lines, is_training), {}
    for stage in range(1, 6):
      if stage > 1:
        paths = self._stage(stage, paths, lines, is_training)
      parts |= {f"s{stage}_{i}": x for i, x in enumerate(paths)}
      if stage < 5:
        paths = self._fused(stage, paths, timeline, is_training)
        parts |= {f"s{stage}_fuse_{i}": x for i, x in enumerate(paths)}
    features = self._features(*paths, lines[0])
    pooled = jnp.mean(features, axis=(1, 2, 3))
    logits = None
    if c.num_classes:
      classify = Linear(c.num_classes, w_init=hk.initializers.RandomNormal(0.01), name="classifier")
      logits = classify(dropout(pooled, c.dropout, is_training))
      if timeline.memory is None:
        parts["probabilities"] = self._probabilities(paths, classify)
    return outputs_of(features, pooled, logits, parts), timeline

  @hk.name_like("__call__")
  def _slow_frames(self, frames: int) -> Int[np.ndarray, " S"]:
    c = self.config
    if frames % c.alpha and not c.causal:
      raise ValueError(
        f"slowfast: clips have {frames} frames, no multiple of alpha={c.alpha}; cut them."
      )
    return np.arange(0, frames, c.alpha) if c.causal else slow_frames(frames, c.alpha)

  @hk.name_like("__call__")
  def _stems(
    self, clips: tuple[Slow, Fast], lines: tuple[Timeline, Timeline], is_training: bool
  ) -> tuple[SlowOut, FastOut]:
    c, paths = self.config, []
    for i, (x, line) in enumerate(zip(clips, lines, strict=True)):
      dim = c.channels // (c.beta_inv if i else 1)
      kernel = ((c.fast_kernels if i else c.slow_kernels)[0], 7, 7)
      stem = NormedConv(dim, kernel, (1, 2, 2), c, name=f"stem_{i}")
      x = jax.nn.relu(stem(x, line, is_training)[0])
      x, _ = max_pool_3d(
        x, line, kernel=(1, 3, 3), stride=(1, 2, 2), padding="half", name=f"pool_{i}"
      )
      paths.append(x)
    return paths[0], paths[1]

  @hk.name_like("__call__")
  def _stage(
    self,
    stage: int,
    paths: tuple[Slow, Fast],
    lines: tuple[Timeline, Timeline],
    is_training: bool,
  ) -> tuple[SlowOut, FastOut]:
    c, done = self.config, []
    for i, (x, line) in enumerate(zip(paths, lines, strict=True)):
      inner = c.channels * 2 ** (stage - 2) // (c.beta_inv if i else 1)
      frames = (c.fast_kernels if i else c.slow_kernels)[stage - 1]
      for j in range(c.blocks[stage - 2]):
        stride = 2 if stage > 2 and not j else 1
        block = Bottleneck(inner, frames, stride, c, name=f"s{stage}_{i}_{j}")
        x = block(x, line, is_training)
      done.append(x)
    return done[0], done[1]

  @hk.name_like("__call__")
  def _fused(
    self, stage: int, paths: tuple[Slow, Fast], timeline: Timeline, is_training: bool
  ) -> tuple[SlowOut, FastOut]:
    c, (slow, fast) = self.config, paths
    dim = c.fusion_ratio * fast.shape[-1]
    kernel, stride = (c.fusion_kernel, 1, 1), (c.alpha, 1, 1)
    lateral = NormedConv(dim, kernel, stride, c, name=f"s{stage}_fuse")
    return jnp.concatenate(
      [slow, jax.nn.relu(lateral(fast, timeline, is_training)[0])], axis=-1
    ), fast

  @hk.name_like("__call__")
  def _features(self, slow: Slow, fast: Fast, line: Timeline) -> Filtered:
    c, (batch, times) = self.config, fast.shape[:2]
    if not c.causal:
      fast = jnp.mean(fast.reshape(batch, -1, c.alpha, *fast.shape[2:]), axis=2)
    elif line.memory is None:
      slow = jnp.repeat(slow, c.alpha, axis=1)[:, :times]
    else:
      slow = line.hold(f"{self.module_name}/held", slow)
    return jnp.concatenate([slow, fast], axis=-1)

  @hk.name_like("__call__")
  def _probabilities(self, paths: tuple[Slow, Fast], classify: Linear) -> Float[Array, "B K"]:
    """Returns the mean over positions of the softmax of each, as in the released evaluation."""
    c, pooled = self.config, []
    for i, x in enumerate(paths):
      size = (c.num_frames // (1 if i else c.alpha), c.height // 32, c.width // 32)
      window = tuple(max(min(a, b), 1) for a, b in zip(size, x.shape[1:4], strict=True))
      ones = (1,) * 5
      total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *window, 1), ones, "VALID")
      pooled.append(total / float(np.prod(window)))
    if c.causal:  # the fast pathway may have more positions in time
      pooled = [jnp.mean(x, axis=1, keepdims=True) for x in pooled]
    return jnp.mean(jax.nn.softmax(classify(jnp.concatenate(pooled, axis=-1))), axis=(1, 2, 3))


def slow_frames(frames: int, alpha: int) -> Int[np.ndarray, " S"]:
  """Returns the frames that the slow pathway reads: `frames / alpha`, from the first to the last.

  >>> slow_frames(8, 4).tolist()
  [0, 7]
  """
  return np.linspace(0, frames - 1, frames // alpha).astype(int)


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes.

  Raises:
    ValueError: Fields do not fit together.
  """
  c = config
  c.validate()
  return as_clip_encoder(
    lambda: SlowFast(c),
    c,
    ClipSpec.of(c),
    name="slowfast",
    causal=c.causal,
    reason="Its convolutions over time read later frames; build it with causal=True.",
  )
