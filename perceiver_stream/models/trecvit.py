"""TRecViT: a gated LRU through time per place, attention over the places of a frame.

Source: TRecViT 2024, 2412.14294; google-deepmind/trecvit. Differs: no class token, positions by
Fourier features, a linear painter in place of a classifier.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import haiku as hk
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.lru import GatedLru, GatedLruConfig, LruState
from perceiver_stream.models import painter
from perceiver_stream.models.base import Model
from perceiver_stream.models.painter import Canvas, Patches, check_patches
from perceiver_stream.nn import LayerNorm, SelfBlock
from perceiver_stream.types import ModalitySpec


@dataclass(kw_only=True)
class Config:
  """Sizes of a TRecViT.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    patch: Rows and columns of a patch.
    dim: Width of a token.
    num_layers: Depth; a layer is time, then space.
    num_heads: Attention heads.
    mlp_factor: Hidden width of the MLPs, by `dim`.
    lru: Of time; None leaves time out: every frame by itself.
    displacements: Ticks ahead that are painted.
  """

  height: int = 64
  width: int = 64
  patch: int = 8
  dim: int = 64
  num_layers: int = 2
  num_heads: int = 4
  mlp_factor: int = 4
  lru: GatedLruConfig | None = field(default_factory=GatedLruConfig)
  displacements: tuple[int, ...] = (1, 4, 16)


class TRecViT(hk.Module):
  """A `Painter`: its state is that of every layer's LRU."""

  def __init__(self, config: Config, *, name: str = "trecvit"):
    super().__init__(name=name)
    check_patches(name, config)
    self.config = config

  def initial_state(self, batch_size: int) -> tuple[LruState, ...]:
    """Returns zeros."""
    return tuple(lru.initial_state(batch_size) for lru in self._lrus())

  @hk.name_like("__call__")
  def watch(
    self,
    frames: Float[Array, "T B H W C"],
    is_first: Bool[Array, "T B"],
    state: tuple[LruState, ...],
  ) -> tuple[Float[Array, "T B N D"], tuple[LruState, ...]]:
    """Returns tokens and states after each of T ticks; all ticks in parallel."""
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
  def paint(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns a picture per displacement."""
    c = self.config
    return Canvas(c.height, c.width, c.patch, len(c.displacements), name="canvas")(tokens)

  @hk.name_like("__call__")
  def _lrus(self) -> list[GatedLru]:
    c = self.config
    num = c.height * c.width // c.patch**2
    layers = range(c.num_layers) if c.lru else ()
    return [GatedLru(c.lru, num, name=f"time_{i}") for i in layers]  # type: ignore[arg-type]


def fitted(config: Config, specs: Mapping[str, ModalitySpec]) -> Config:
  """Returns `config` for the frames of a stream.

  Raises:
    ValueError: The stream has no pixels.
  """
  if "pixels" not in specs:
    raise ValueError(f"trecvit: the stream has {sorted(specs)}, but the model reads pixels.")
  height, width = specs["pixels"].shape[:2]
  return dataclasses.replace(config, height=height, width=width)


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  return painter.build(config, TRecViT)
