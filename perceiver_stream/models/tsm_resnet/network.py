"""Pre-activation ResNet (V2), with DeepMind's rotating temporal shift in every residual branch.

Differs from the TSM of the paper: the shift exchanges the places of the shifted channel groups, and
follows normalisation and ReLU. No convolution has a bias.

Source: google-deepmind/brave, brave/models/brave/{tsm_resnet,resnet}.py.
"""

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.towers import TowerOutput
from perceiver_stream.models.tsm_resnet.config import Config
from perceiver_stream.nn.conv import Conv2D, pool
from perceiver_stream.nn.debiased_batch_norm import NormMode, batch_norm
from perceiver_stream.nn.layers import haiku_normal
from perceiver_stream.nn.temporal_shift import deflated_shift, rotating_shift


class ResNetV2(hk.Module):
  """Tower over clips; with one frame and no shift, over images and spectrograms.

  Args:
    config: Sizes.
    deflation: If not None, shifts are replaced for single images: the shifted channel groups are scaled
      by it (`deflated_shift`); the released value is 0.3.
    name: Haiku name.
  """

  def __init__(self, config: Config, *, deflation: float | None = None, name: str):
    super().__init__(name=name)
    config.validate()
    self.config, self.deflation = config, deflation

  def __call__(self, clips: Float[Array, "B T H W C"], mode: NormMode) -> TowerOutput:
    """Returns features and the output of every stage.

    Stages are `"stem"` (after pooling), `"stage_0"`, ... and `"last"` (normalised and rectified).

    Args:
      clips: Pixels, RGB in [0, 1]; or spectrograms `[B, 1, T, M, 1]`.
      mode: Source of the statistics of batch norms.
    """
    lead, c = clips.shape[:2], self.config
    split = lambda x: x.reshape(*lead, *x.shape[1:])  # noqa: E731
    x = clips.reshape(-1, *clips.shape[2:])
    x = Conv2D(
      c.stem_channels, kernel=7, stride=2, use_bias=False, w_init=haiku_normal(), name="stem"
    )(x)
    x = pool(x, "max", window=3, stride=2)
    stages = {"stem": split(x)}
    for i, channels in enumerate(c.stage_channels):
      for j in range(c.stage_blocks[i]):
        stride = 1 if j else c.stage_strides[i]
        project = j == 0 if c.project_first else x.shape[-1] != channels
        block = _Block(c, channels, stride, project, self.deflation, name=f"stage_{i}_block_{j}")
        x = block(x, lead[1], mode)
      stages[f"stage_{i}"] = split(x)
    x = jax.nn.relu(batch_norm(x, mode, name="norm"))
    stages["last"] = split(x)
    return TowerOutput(jnp.mean(split(jnp.mean(x, axis=(1, 2))), axis=1), stages)


class _Block(hk.Module):
  """Bottleneck of three convolutions, each after a norm and a ReLU; the shift is in the residual only."""

  def __init__(
    self,
    config: Config,
    channels: int,
    stride: int,
    project: bool,
    deflation: float | None,
    *,
    name: str,
  ):
    super().__init__(name=name)
    self.config, self.channels, self.stride = config, channels, stride
    self.project, self.deflation = project, deflation

  def __call__(
    self, x: Float[Array, "N H W C"], frames: int, mode: NormMode
  ) -> Float[Array, "N h w K"]:
    """Returns the block's output for clips of `frames` frames, N = B · frames."""
    inner = self.channels // self.config.bottleneck
    filtered = lambda y, name, dim, kernel=1, stride=1: Conv2D(  # noqa: E731
      dim, kernel=kernel, stride=stride, use_bias=False, w_init=haiku_normal(), name=name
    )(y)
    y = jax.nn.relu(batch_norm(x, mode, name="norm_0"))
    shortcut = filtered(y, "shortcut", self.channels, 1, self.stride) if self.project else x
    y = filtered(self._shifted(y, frames), "conv_0", inner)
    y = jax.nn.relu(batch_norm(y, mode, name="norm_1"))
    y = filtered(y, "conv_1", inner, 3, self.stride)
    y = jax.nn.relu(batch_norm(y, mode, name="norm_2"))
    return shortcut + filtered(y, "conv_2", self.channels)

  def _shifted(self, y: Float[Array, "N H W C"], frames: int) -> Float[Array, "N H W C"]:
    share = self.config.shift_share
    if not share:
      return y
    if self.deflation is not None:
      return deflated_shift(y, share, self.deflation)
    return rotating_shift(y.reshape(-1, frames, *y.shape[1:]), share).reshape(y.shape)
