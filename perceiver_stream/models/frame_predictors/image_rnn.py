"""An image encoder and a GRU: the state is one vector per row."""

from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.models.base import Model
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.frame_predictors import base as predictor
from perceiver_stream.models.frame_predictors.base import Patches, PatchFramePredictor
from perceiver_stream.nn import LayerNorm, Linear, SelfBlock
from perceiver_stream.types import Layers, Size


@dataclass(kw_only=True)
class Config(predictor.Config):
  """Sizes of an `ImageRnn`.

  Attributes:
    num_layers: Self-attention blocks: one after the output of the GRU is added, the others before.
    num_heads: Attention heads.
    mlp_factor: Hidden width of the MLPs over `dim`.
  """

  num_layers: Layers = 2
  num_heads: Size = 4
  mlp_factor: Size = 4


class ImageRnn(PatchFramePredictor):
  """A `FramePredictor`: a frame's mean token updates a GRU, whose output all tokens read."""

  def __init__(self, config: Config, *, name: str = "image_rnn"):
    super().__init__(config, name=name)

  def initial_state(self, batch_size: int) -> Float[Array, "B D"]:
    """Returns zeros."""
    return jnp.zeros((batch_size, self.config.dim))

  @hk.name_like("__call__")
  def observe(
    self,
    frames: Float[Array, "T B H W C"],
    is_first: Bool[Array, "T B"],
    state: Float[Array, "B D"],
  ) -> tuple[Float[Array, "T B N D"], Float[Array, "T B D"]]:
    """Returns tokens and states after each of T ticks."""
    c = self.config
    x = Patches(c.patch, c.dim, name="patches")(frames)
    for i in range(c.num_layers - 1):
      x = self._block(f"block_{i}", x)
    mean_token = jnp.mean(LayerNorm(name="read_norm")(x), axis=2)
    unrolled: Any = hk.dynamic_unroll(
      hk.ResetCore(hk.GRU(c.dim, name="gru")), (mean_token, is_first), state
    )
    memory = Linear(c.dim, name="remembered")(unrolled[0])
    x = x + memory[:, :, None]
    x = self._block(f"block_{c.num_layers - 1}", x)
    return LayerNorm(name="norm")(x), unrolled[0]

  @hk.name_like("__call__")
  def _block(self, name: str, x: Array) -> Array:
    block = SelfBlock(
      self.config.num_heads, mlp_dim=self.config.mlp_factor * self.config.dim, name=name
    )
    return block(x.reshape(-1, *x.shape[2:])).reshape(x.shape)


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  return predictor.build(config, ImageRnn)


# --- sizes of the image encoder with an RNN: nano for tests, tiny for a CPU ---


def _config(side: int, patch: int, dim: int, layers: int) -> Config:
  return Config(
    height=side, width=side, patch=patch, dim=dim, num_layers=layers, displacements=(1, 4)
  )


_VARIANTS = {
  "nano": lambda: _config(16, 4, 16, 1),
  "tiny": lambda: _config(64, 8, 96, 3),
}

_CARD = Card(
  summary="A vision transformer per frame and a GRU whose state is one vector.",
  paper="ours; a baseline",
  inputs="pixels in whole patches",
  limits="A baseline: its memory is a single vector.",
)

FAMILY = Family(
  name="image_rnn",
  config=Config,
  build=build,
  fit=fit_frames("image_rnn"),
  variants=_VARIANTS,
  card=_CARD,
)
