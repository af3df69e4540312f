"""Causal 3-D convolutions: the state is the last few ticks of the input of every layer."""

import math
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.causal import causal_taps
from perceiver_stream.models.base import Model
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.frame_predictors import base as predictor
from perceiver_stream.models.frame_predictors.base import Patches, PatchFramePredictor
from perceiver_stream.nn import LayerNorm, Linear, gelu
from perceiver_stream.nn.conv import extract_patches
from perceiver_stream.types import Layers, Size


@dataclass(kw_only=True)
class Config(predictor.Config):
  """Sizes of a `CausalConv3D`.

  Attributes:
    num_layers: Convolutions over 3 × 3 patches.
    ticks: Temporal extent of each convolution.
  """

  num_layers: Layers = 2
  ticks: Size = 3


class CausalConv3D(PatchFramePredictor):
  """A `FramePredictor` of residual convolutions over time, rows and columns, causal in time.

  Convolutions are computed as patches times a matrix, because the gradient of a convolution inside
  a loop is many times slower on a CPU.
  """

  def __init__(self, config: Config, *, name: str = "conv3d"):
    super().__init__(config, name=name)

  def initial_state(self, batch_size: int) -> tuple[Float[Array, "B K N D"], ...]:
    """Returns zeros: the last ticks of the input of every layer."""
    c = self.config
    num = math.prod(c.grid)
    return (jnp.zeros((batch_size, c.ticks - 1, num, c.dim)),) * c.num_layers

  @hk.name_like("__call__")
  def observe(
    self,
    frames: Float[Array, "T B H W C"],
    is_first: Bool[Array, "T B"],
    state: tuple[Float[Array, "B K N D"], ...],
  ) -> tuple[Float[Array, "T B N D"], tuple[Float[Array, "T B K N D"], ...]]:
    """Returns tokens and states after each of T ticks."""
    c, states = self.config, []
    x = Patches(c.patch, c.dim, name="patches")(frames)
    for i in range(c.num_layers):
      normed = LayerNorm(name=f"norm_{i}")(x)
      taps = causal_taps(normed, state[i], is_first)  # [T B K N D]
      states.append(taps[:, :, 1:])
      x = x + gelu(Linear(c.dim, name=f"conv_{i}")(self._around(taps)))
    return LayerNorm(name="norm")(x), tuple(states)

  def _around(self, taps: Float[Array, "T B K N D"]) -> Float[Array, "T B N E"]:
    """Returns all taps of the 3 × 3 neighbours of each patch, concatenated; zeros outside."""
    grid = jnp.moveaxis(taps, 2, 3).reshape(*taps.shape[:2], *self.config.grid, -1)
    return extract_patches(grid, 3).reshape(*taps.shape[:2], taps.shape[3], -1)


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  return predictor.build(config, CausalConv3D)


# --- sizes of the causal 3-D convolutions: nano for tests, tiny for a CPU ---


def _config(side: int, patch: int, dim: int, layers: int) -> Config:
  return Config(
    height=side, width=side, patch=patch, dim=dim, num_layers=layers, displacements=(1, 4)
  )


_VARIANTS = {
  "nano": lambda: _config(16, 4, 16, 1),
  "tiny": lambda: _config(64, 8, 64, 4),
}

_CARD = Card(
  summary="Residual convolutions over ticks, rows and columns, causal in time.",
  paper="ours; a baseline",
  inputs="pixels in whole patches",
  limits="Its memory is limited to the last few ticks of every layer.",
)

FAMILY = Family(
  name="conv3d",
  config=Config,
  build=build,
  fit=fit_frames("conv3d"),
  variants=_VARIANTS,
  card=_CARD,
)
