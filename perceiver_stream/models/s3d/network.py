"""S3D-G: Inception-v1 with kernels over space, then over time, and gates on channels.

Source: Xie et al. 2018 (1712.04851); google-deepmind/deepmind-research, mmv/models/s3d.py and, for the
order of channels in blocks of pixels, mmv/eval_ucf101.py. Blocks and pools are those of I3D.
"""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from perceiver_stream.models.i3d.network import MIXED, Pool, Widths
from perceiver_stream.models.s3d.config import Config
from perceiver_stream.models.towers import TowerOutput
from perceiver_stream.nn.conv3d import Conv3D, Triple, max_pool_3d
from perceiver_stream.nn.debiased_batch_norm import NormMode, batch_norm
from perceiver_stream.nn.layers import Linear, haiku_normal
from perceiver_stream.nn.timeline import Timeline

Clips = Float[Array, "B T H W C"]
Filtered = Float[Array, "B t h w K"]


class S3D(hk.Module):
  """Tower over clips."""

  def __init__(self, config: Config, *, name: str = "s3d"):
    super().__init__(name=name)
    self.config = config

  def __call__(self, clips: Float[Array, "B T H W 3"], mode: NormMode) -> TowerOutput:
    """Returns features and the output of every block, by names such as `"mixed_5c"`.

    Args:
      clips: RGB in [0, 1]; with `space_to_depth`, T, H and W are even.
      mode: Source of the statistics of batch norms.

    Raises:
      ValueError: They are not.
    """
    c, stages = self.config, {}
    stem: dict[str, Triple] = {"kernel": (c.first_frames, 7, 7), "stride": (2, 2, 2)}
    x = clips
    if c.space_to_depth:
      x, stem = blocks_of_pixels(clips), {"kernel": (2, 4, 4), "stride": (1, 1, 1)}
    x = Unit(64, c, **stem, name="conv_1a")(x, mode)
    x = _pooled(x, Pool((1, 3, 3), (1, 2, 2)), "pool_2a")
    x = Unit(64, c, name="conv_2b")(x, mode)
    x = Unit(192, c, kernel=(3, 3, 3), gated=True, name="conv_2c")(x, mode)
    for name, block in MIXED.items():
      if isinstance(block, Pool):
        x = _pooled(x, block, name)
      else:
        stages[name] = x = Mixed(block, c, name=name)(x, mode)
      if name == c.final_endpoint:
        break
    return TowerOutput(jnp.mean(x, axis=(1, 2, 3)), stages)


class Unit(hk.Module):
  """Convolution, batch norm and ReLU; 3×3×3 is 1×3×3, then 3×1×1, each with both; then a gate.

  Args:
    dim: Output channels, before the config's divisor.
    config: Sizes of the tower.
    kernel: Frames, rows, columns.
    stride: Frames, rows, columns.
    gated: If True, each channel is multiplied by the sigmoid of a linear map of the clip's mean.
    name: Haiku name.
  """

  def __init__(
    self,
    dim: int,
    config: Config,
    *,
    kernel: Triple = (1, 1, 1),
    stride: Triple = (1, 1, 1),
    gated: bool = False,
    name: str,
  ):
    super().__init__(name=name)
    self.dim, self.stride, self.gated = max(dim // config.divisor, 1), stride, gated
    self.kernels = [(1, 3, 3), (3, 1, 1)] if kernel == (3, 3, 3) else [kernel]

  def __call__(self, x: Clips, mode: NormMode) -> Filtered:
    """Returns the filtered clips."""
    for i, kernel in enumerate(self.kernels):
      conv = Conv3D(
        self.dim,
        kernel=kernel,
        stride=self.stride,
        padding="same",
        w_init=haiku_normal(),
        name=f"conv_{i}",
      )
      x = jax.nn.relu(batch_norm(conv(x, Timeline())[0], mode, name=f"norm_{i}"))
    if not self.gated:
      return x
    weights = jax.nn.sigmoid(
      Linear(self.dim, w_init=haiku_normal(), name="gate")(x.mean((1, 2, 3)))
    )
    return weights[:, None, None, None] * x


class Mixed(hk.Module):
  """Four branches side by side, each with a gate at its end."""

  def __init__(self, widths: Widths, config: Config, *, name: str):
    super().__init__(name=name)
    self.widths, self.config = widths, config

  def __call__(self, x: Clips, mode: NormMode) -> Filtered:
    """Returns the joined branches."""
    w = self.widths

    def large(dim: int, name: str) -> Callable[[Clips, NormMode], Filtered]:
      return Unit(dim, self.config, kernel=(3, 3, 3), gated=True, name=name)

    def point(dim: int, name: str, gated: bool = False) -> Callable[[Clips, NormMode], Filtered]:
      return Unit(dim, self.config, gated=gated, name=name)

    branches = [
      point(w.single, "branch0_a", gated=True)(x, mode),
      large(w.large, "branch1_b")(point(w.before, "branch1_a")(x, mode), mode),
      large(w.small, "branch2_b")(point(w.before_small, "branch2_a")(x, mode), mode),
      point(w.pooled, "branch3_b", gated=True)(
        _pooled(x, Pool((3, 3, 3), (1, 1, 1)), "pool"), mode
      ),
    ]
    return jnp.concatenate(branches, axis=-1)


def blocks_of_pixels(clips: Clips) -> Float[Array, "B t h w K"]:
  """Returns clips with 2×2×2 blocks of pixels as channels, ordered by time, row, column, channel.

  Raises:
    ValueError: A side is odd.
  """
  if any(size % 2 for size in clips.shape[1:4]):
    raise ValueError(
      f"s3d: clips of {'×'.join(map(str, clips.shape[1:4]))} (frames, rows, columns) have an odd side; "
      f"crop them, or set space_to_depth=False."
    )
  order = "b (t i) (h j) (w k) c -> b t h w (i j k c)"
  return rearrange(clips, order, i=2, j=2, k=2)


def _pooled(x: Clips, pool: Pool, name: str) -> Filtered:
  found, _ = max_pool_3d(
    x, Timeline(), kernel=pool.kernel, stride=pool.stride, padding="same", name=name
  )
  return found
