"""The spatio-temporal video autoencoder: a ConvLSTM foretells the flow that moves the last frame on.

Flow is learnt from frames alone: a sampler moves the features of the last frame along it, and what is
painted from them is compared with the next frame. Without the sampler (`warps=False`) the same net
says how the features themselves change.

Source: Pătrăucean et al. 2016, 1511.06309; viorik/ConvLSTM. Differs: colours, not grey; a GELU within
the head of the flow; all ticks are alike, there the first has weights of its own. The penalty on rough
flow is `nn.roughness`, weighed by whoever trains: the release adds its gradient only.
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
  """Sizes of the net; the defaults are those of the release, where it has them.

  Attributes:
    patch: Rows and columns that are pooled into one place of the feature maps.
    dim: Channels of the encoder.
    memory_dim: Channels of the ConvLSTM.
    kernel: Rows and columns of the kernels of encoder and decoder.
    memory_kernel: Those of the ConvLSTM.
    flow_kernel: Those of the head of the flow.
    flow_dim: Channels within it.
    max_flow: Longest flow along either axis, in sides of the frame.
    warps: Whether features move along a flow; else their change is said.
    displacements: The next tick alone, (1,).
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
        f"video_autoencoder: displacements={self.displacements}, but it foretells the next tick "
        f"alone; use (1,)."
      )
    even = [n for n in ("kernel", "memory_kernel", "flow_kernel") if getattr(self, n) % 2 == 0]
    if even:
      raise ValueError(f"video_autoencoder: {even[0]}={getattr(self, even[0])}; use an odd number.")


class VideoAutoencoder(hk.Module):
  """A `FramePredictor` that does not warp. A token is a place: what is remembered there, and seen."""

  def __init__(self, config: Config, *, name: str = "video_autoencoder"):
    super().__init__(name=name)
    check_patches(name, config)
    self.config = config

  def initial_state(self, batch_size: int) -> ConvLstmState:
    """Returns zeros."""
    return self._memory().initial_state(batch_size)

  @hk.name_like("__call__")
  def watch(
    self, frames: Float[Array, "T B H W C"], is_first: Bool[Array, "T B"], state: ConvLstmState
  ) -> tuple[Float[Array, "T B N D"], ConvLstmState]:
    """Returns tokens and states after each of T ticks."""
    c = self.config
    flat = frames.reshape(-1, *frames.shape[2:]) - 0.5
    seen = jnp.tanh(Conv2D(c.dim, kernel=c.kernel, name="encoder")(flat))
    seen = reduce(seen, "n (h p) (w q) c -> n h w c", "max", p=c.patch, q=c.patch)
    seen = seen.reshape(*frames.shape[:2], *seen.shape[1:])
    states = self._memory().unroll(seen, is_first, state)
    places = jnp.concatenate([states.hidden, seen], axis=-1)
    return rearrange(places, "t b h w c -> t b (h w) c"), states

  @hk.name_like("__call__")
  def predict_frames(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B 1 H W 3"]:
    """Returns the next frame."""
    c = self.config
    larger = self._expected(*self._places(tokens))
    for axis in (1, 2):
      larger = jnp.repeat(larger, c.patch, axis=axis)
    return 0.5 + Conv2D(3, kernel=c.kernel, name="decoder")(larger)[:, None]

  @hk.name_like("__call__")
  def _memory(self) -> ConvLstm:
    c = self.config
    return ConvLstm(c.grid, c.memory_dim, kernel=c.memory_kernel, name="memory")

  def _places(self, tokens: Array) -> tuple[Float[Array, "B h w M"], Float[Array, "B h w D"]]:
    """Returns what is remembered, and what was last seen, of every place."""
    places = tokens.reshape(tokens.shape[0], *self.config.grid, -1)
    return places[..., : self.config.memory_dim], places[..., self.config.memory_dim :]

  @hk.name_like("__call__")
  def _expected(
    self, remembered: Float[Array, "B h w M"], seen: Float[Array, "B h w D"]
  ) -> Float[Array, "B h w D"]:
    """Returns the features of the next frame; at first those of the last."""
    zero = hk.initializers.Constant(0.0)
    change = Conv2D(self.config.dim, kernel=self.config.kernel, w_init=zero, name="change")
    return seen + change(remembered)


class WarpingAutoencoder(VideoAutoencoder):
  """A `FlowPredictor`: features move along the flow that is foretold, which at first is none."""

  @hk.name_like("__call__")
  def flow(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B 1 H W 2"]:
    """Returns where each pixel of the next frame is in the last, from its own place, in pixels."""
    flow = self.config.patch * self._flow(self._places(tokens)[0])
    for axis in (1, 2):
      flow = jnp.repeat(flow, self.config.patch, axis=axis)
    return flow[:, None]

  @hk.name_like("__call__")
  def _flow(self, remembered: Float[Array, "B h w M"]) -> Float[Array, "B h w 2"]:
    """Returns the flow, (x, y) in places of the feature map."""
    c = self.config
    y = Conv2D(c.flow_dim, kernel=c.flow_kernel, name="flow_0")(remembered)
    y = Conv2D(c.flow_dim, kernel=c.flow_kernel, name="flow_1")(gelu(y))
    zero = hk.initializers.Constant(0.0)
    y = Conv2D(2, kernel=1, w_init=zero, name="flow_2")(y)
    most = c.max_flow * jnp.asarray(c.grid[::-1], jnp.float32)
    most = jnp.broadcast_to(most, y.shape)
    return jnp.clip(y, -most, most)

  @hk.name_like("__call__")
  def _expected(
    self, remembered: Float[Array, "B h w M"], seen: Float[Array, "B h w D"]
  ) -> Float[Array, "B h w D"]:
    """Returns the features of the last frame, moved."""
    flow = self._flow(remembered)
    rows, columns = (
      jnp.broadcast_to(jnp.asarray(x, jnp.float32)[None], flow.shape[:3])
      for x in jnp.mgrid[: flow.shape[1], : flow.shape[2]]
    )
    return sample_bilinear(seen, rows + flow[..., 1], columns + flow[..., 0])


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  return predictor.build(config, make)


def make(config: Config) -> VideoAutoencoder:
  """Returns the predictor that `config` describes, inside a Haiku transform."""
  return (WarpingAutoencoder if config.warps else VideoAutoencoder)(config)


# --- sizes of the spatio-temporal video autoencoder: that of the release, and small ones to train ---


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
  "tiny_direct": lambda: _small(64, 32, 8, warps=False),  # without flow: to compare with
  "digits": Config,  # 64×64, as released for moving digits, but for its colours
}

_CARD = Card(
  summary="A ConvLSTM that foretells the flow which moves the last frame's features on.",
  paper="Pătrăucean, Handa, Cipolla 2016, Spatio-temporal video autoencoder, 1511.06309",
  code="viorik/ConvLSTM",
  inputs="pixels in whole 2×2 cells",
  limits="It foretells the next tick alone. What comes into view, no flow can bring.",
)

FAMILY = Family(
  name="video_autoencoder",
  config=Config,
  build=build,
  fit=fit_frames("video_autoencoder"),
  variants=_VARIANTS,
  card=_CARD,
)
