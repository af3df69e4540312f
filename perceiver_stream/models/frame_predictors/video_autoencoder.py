"""The spatio-temporal video autoencoder: a ConvLSTM predicts the flow that warps the last frame.

Flow is learned from frames only: a sampler warps the features of the last frame along it, and the
image decoded from them is compared with the next frame. Without the sampler (`warps=False`) the
same network predicts the change of the features.

Source: Pătrăucean et al. 2016, 1511.06309; viorik/ConvLSTM. Differs: colour instead of grey; a
GELU in the flow head; the same weights at all ticks, where the release has separate ones for the
first. The penalty on rough flow is `nn.roughness`, weighted by the objective; the release adds its
gradient only.
"""

from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.conv_lstm import ConvLstm, ConvLstmState
from perceiver_stream.models.base import Model
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.frame_predictors import base as predictor
from perceiver_stream.models.frame_predictors.base import check_patches
from perceiver_stream.nn import gelu, sample_bilinear
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.types import Positive, Size, Ticks


@dataclass(kw_only=True)
class Config(predictor.Config):
  """Sizes of a `VideoAutoencoder`; defaults are those of the release, if it has them.

  Attributes:
    patch: Rows and columns that are pooled into one position of the feature maps.
    dim: Channels of the encoder.
    memory_dim: Channels of the ConvLSTM.
    kernel: Kernel size of encoder and decoder.
    memory_kernel: Kernel size of the ConvLSTM.
    flow_kernel: Kernel size of the flow head.
    flow_dim: Channels within the flow head.
    max_flow: Maximum flow along either axis, as a fraction of the side of the frame.
    warps: If True, features are warped along a flow; else their change is predicted.
    displacements: The next tick only, (1,).
  """

  patch: Size = 2
  dim: Size = 32
  memory_dim: Size = 45
  kernel: Size = 7
  memory_kernel: Size = 7
  flow_kernel: Size = 15
  flow_dim: Size = 2
  max_flow: Positive = 0.25
  warps: bool = True
  displacements: tuple[Ticks, ...] = (1,)

  def __post_init__(self):
    if tuple(self.displacements) != (1,):
      raise ValueError(
        f"video_autoencoder: displacements={self.displacements}, but it predicts the next tick "
        f"only; use (1,)."
      )
    even = [n for n in ("kernel", "memory_kernel", "flow_kernel") if getattr(self, n) % 2 == 0]
    if even:
      raise ValueError(f"video_autoencoder: {even[0]}={getattr(self, even[0])}; use an odd number.")


class VideoAutoencoder(hk.Module):
  """A `FramePredictor` without warping. A token is [memory, encoded features] of a position."""

  def __init__(self, config: Config, *, name: str = "video_autoencoder"):
    super().__init__(name=name)
    check_patches(name, config)
    self.config = config

  def initial_state(self, batch_size: int) -> ConvLstmState:
    """Returns zeros."""
    return self._memory().initial_state(batch_size)

  @hk.name_like("__call__")
  def observe(
    self, frames: Float[Array, "T B H W C"], is_first: Bool[Array, "T B"], state: ConvLstmState
  ) -> tuple[Float[Array, "T B N D"], ConvLstmState]:
    """Returns tokens and states after each of T ticks."""
    c = self.config
    flat = frames.reshape(-1, *frames.shape[2:]) - 0.5
    features = jnp.tanh(Conv2D(c.dim, kernel=c.kernel, name="encoder")(flat))
    features = reduce(features, "n (h p) (w q) c -> n h w c", "max", p=c.patch, q=c.patch)
    features = features.reshape(*frames.shape[:2], *features.shape[1:])
    states = self._memory().unroll(features, is_first, state)
    tokens = jnp.concatenate([states.hidden, features], axis=-1)
    return rearrange(tokens, "t b h w c -> t b (h w) c"), states

  @hk.name_like("__call__")
  def predict_frames(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B 1 H W 3"]:
    """Returns the next frame."""
    c = self.config
    larger = self._expected(*self._split(tokens))
    for axis in (1, 2):
      larger = jnp.repeat(larger, c.patch, axis=axis)
    return 0.5 + Conv2D(3, kernel=c.kernel, name="decoder")(larger)[:, None]

  @hk.name_like("__call__")
  def _memory(self) -> ConvLstm:
    c = self.config
    return ConvLstm(c.grid, c.memory_dim, kernel=c.memory_kernel, name="memory")

  def _split(self, tokens: Array) -> tuple[Float[Array, "B h w M"], Float[Array, "B h w D"]]:
    """Returns the memory and the features of the last frame, at every position."""
    cells = tokens.reshape(tokens.shape[0], *self.config.grid, -1)
    return cells[..., : self.config.memory_dim], cells[..., self.config.memory_dim :]

  @hk.name_like("__call__")
  def _expected(
    self, memory: Float[Array, "B h w M"], features: Float[Array, "B h w D"]
  ) -> Float[Array, "B h w D"]:
    """Returns the features of the next frame; before training, those of the last."""
    zero = hk.initializers.Constant(0.0)
    change = Conv2D(self.config.dim, kernel=self.config.kernel, w_init=zero, name="change")
    return features + change(memory)


class WarpingAutoencoder(VideoAutoencoder):
  """A `FlowPredictor` that warps features along the predicted flow, zero before training."""

  @hk.name_like("__call__")
  def flow(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B 1 H W 2"]:
    """Returns the offset in pixels of each pixel's source in the last frame."""
    flow = self.config.patch * self._flow(self._split(tokens)[0])
    for axis in (1, 2):
      flow = jnp.repeat(flow, self.config.patch, axis=axis)
    return flow[:, None]

  @hk.name_like("__call__")
  def _flow(self, memory: Float[Array, "B h w M"]) -> Float[Array, "B h w 2"]:
    """Returns the flow (x, y), in positions of the feature map."""
    c = self.config
    y = Conv2D(c.flow_dim, kernel=c.flow_kernel, name="flow_0")(memory)
    y = Conv2D(c.flow_dim, kernel=c.flow_kernel, name="flow_1")(gelu(y))
    zero = hk.initializers.Constant(0.0)
    y = Conv2D(2, kernel=1, w_init=zero, name="flow_2")(y)
    most = c.max_flow * jnp.asarray(c.grid[::-1], jnp.float32)
    most = jnp.broadcast_to(most, y.shape)
    return jnp.clip(y, -most, most)

  @hk.name_like("__call__")
  def _expected(
    self, memory: Float[Array, "B h w M"], features: Float[Array, "B h w D"]
  ) -> Float[Array, "B h w D"]:
    """Returns the warped features of the last frame."""
    flow = self._flow(memory)
    rows, columns = (
      jnp.broadcast_to(jnp.asarray(x, jnp.float32)[None], flow.shape[:3])
      for x in jnp.mgrid[: flow.shape[1], : flow.shape[2]]
    )
    return sample_bilinear(features, rows + flow[..., 1], columns + flow[..., 0])


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  return predictor.build(config, make)


def make(config: Config) -> VideoAutoencoder:
  """Returns the predictor that `config` describes, inside a Haiku transform."""
  return (WarpingAutoencoder if config.warps else VideoAutoencoder)(config)


# --- sizes of the spatio-temporal video autoencoder: those of the release, and small ones to train
# ---


def _small(side: int, dim: int, flow_dim: int, warps: bool = True) -> Config:
  return Config(
    height=side,
    width=side,
    dim=dim,
    memory_dim=dim,
    kernel=5,
    memory_kernel=3,
    flow_kernel=7,
    flow_dim=flow_dim,
    warps=warps,
  )


_VARIANTS = {
  "nano": lambda: _small(16, 8, 4),
  "tiny": lambda: _small(64, 32, 8),
  "tiny_direct": lambda: _small(64, 32, 8, warps=False),  # without flow, for comparison
  "digits": Config,  # 64×64, as released for moving digits, except for colours
}

_CARD = Card(
  summary="A ConvLSTM that predicts the flow which warps the last frame's features.",
  paper="Pătrăucean, Handa, Cipolla 2016, Spatio-temporal video autoencoder, 1511.06309",
  code="viorik/ConvLSTM",
  inputs="pixels in whole 2×2 cells",
  limits="It predicts the next tick only. Flow cannot produce regions that come into view.",
)

FAMILY = Family(
  name="video_autoencoder",
  config=Config,
  build=build,
  fit=fit_frames("video_autoencoder"),
  variants=_VARIANTS,
  card=_CARD,
)
