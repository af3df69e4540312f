"""TRecViT: a gated LRU over time per patch position, attention over the positions of a frame.

Source: TRecViT 2024, 2412.14294; google-deepmind/trecvit. Differs: no class token, Fourier
features as positions, a linear predictor instead of a classifier.
"""

import math
from dataclasses import dataclass, field

import haiku as hk
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.lru import GatedLru, GatedLruConfig, LruState
from perceiver_stream.models.base import Model
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.frame_predictors import base as predictor
from perceiver_stream.models.frame_predictors.base import Patches, PatchFramePredictor
from perceiver_stream.nn import LayerNorm, SelfBlock
from perceiver_stream.types import Layers, Size


@dataclass(kw_only=True)
class Config(predictor.Config):
  """Sizes of a TRecViT.

  Attributes:
    num_layers: Depth; a layer is an LRU over time, then attention over space.
    num_heads: Attention heads.
    mlp_factor: Hidden width of the MLPs over `dim`.
    lru: Sizes of the LRU; None: frames are processed independently.
  """

  num_layers: Layers = 2
  num_heads: Size = 4
  mlp_factor: Size = 4
  lru: GatedLruConfig | None = field(default_factory=GatedLruConfig)


class TRecViT(PatchFramePredictor):
  """A `FramePredictor` whose state is that of every layer's LRU."""

  def __init__(self, config: Config, *, name: str = "trecvit"):
    super().__init__(config, name=name)

  def initial_state(self, batch_size: int) -> tuple[LruState, ...]:
    """Returns zeros."""
    return tuple(lru.initial_state(batch_size) for lru in self._lrus())

  @hk.name_like("__call__")
  def observe(
    self,
    frames: Float[Array, "T B H W C"],
    is_first: Bool[Array, "T B"],
    state: tuple[LruState, ...],
  ) -> tuple[Float[Array, "T B N D"], tuple[LruState, ...]]:
    """Returns tokens and states after each of T ticks, computed in parallel."""
    c, states = self.config, []
    x = Patches(c.patch, c.dim, name="patches")(frames)
    lrus = self._lrus()
    for i in range(c.num_layers):
      if lrus:
        normed = LayerNorm(name=f"time_norm_{i}")(x)
        y, after = lrus[i].unroll(normed, is_first, state[i])
        x, states = x + y, [*states, after]
      block = SelfBlock(c.num_heads, mlp_dim=c.mlp_factor * c.dim, name=f"space_{i}")
      x = block(x.reshape(-1, *x.shape[2:])).reshape(x.shape)
    return LayerNorm(name="norm")(x), tuple(states)

  @hk.name_like("__call__")
  def _lrus(self) -> list[GatedLru]:
    c = self.config
    num = math.prod(c.grid)
    layers = range(c.num_layers) if c.lru else ()
    return [GatedLru(c.lru, num, name=f"time_{i}") for i in layers]  # type: ignore[arg-type]


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  return predictor.build(config, TRecViT)


# --- sizes of TRecViT: nano for tests, tiny for a CPU ---


def _config(side: int, patch: int, dim: int, layers: int) -> Config:
  return Config(
    height=side,
    width=side,
    patch=patch,
    dim=dim,
    num_layers=layers,
    lru=GatedLruConfig(dim=dim),
    displacements=(1, 4),
  )


_VARIANTS = {
  "nano": lambda: _config(16, 4, 16, 1),
  "tiny": lambda: _config(64, 8, 96, 3),
}

_CARD = Card(
  summary="A gated linear recurrence over time for every position, attention over the positions.",
  paper="TRecViT 2024, 2412.14294",
  code="google-deepmind/trecvit",
  inputs="pixels in whole patches",
  limits="Sizes are our own; the released weights, of classifiers and trackers, do not fit.",
)

FAMILY = Family(
  name="trecvit",
  config=Config,
  build=build,
  fit=fit_frames("trecvit"),
  variants=_VARIANTS,
  card=_CARD,
)
