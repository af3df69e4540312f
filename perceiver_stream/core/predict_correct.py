"""The latent array of MooG: predict where things will be, then correct by what is seen."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn import (
  LayerNorm,
  LearnedPositions,
  ParallelBlock,
  Precision,
  coordinates,
  fourier_linear,
  select,
  spread,
)
from perceiver_stream.types import Layers, Size

_BANDS = 8  # of the places of latents


class CoreInputs(NamedTuple):
  """What a core reads at one tick.

  Attributes:
    tokens: `[B, N, C]` of all modalities; at least one token is visible in every row.
    visible: `[B, N]` bool, or `[B, L, N]` by latent; tokens of what was not observed are not.
    is_first: `[B]` bool; True resets that row's state before the tick.
  """

  tokens: Float[Array, "B N C"]
  visible: Bool[Array, "B N"] | Bool[Array, "B L N"]
  is_first: Bool[Array, " B"]


@dataclass(kw_only=True)
class CoreConfig:
  """Sizes every core has.

  Attributes:
    num_latents: Latents in the array, L.
    latent_dim: Width of a latent, D.
    num_heads: Attention heads.
    mlp_factor: MLP width over `latent_dim`.
  """

  num_latents: Size = 64
  latent_dim: Size = 128
  num_heads: Size = 4
  mlp_factor: Size = 2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.latent_dim % self.num_heads:
      raise ValueError(
        f"{type(self).__name__}: latent_dim={self.latent_dim} is not a multiple of "
        f"num_heads={self.num_heads}; change one of them."
      )


@dataclass(kw_only=True)
class PredictCorrectConfig(CoreConfig):
  """Sizes of a `PredictCorrect` core.

  Attributes:
    num_predict_layers: Self-attention blocks that move the latents one tick on.
    num_correct_layers: Self + cross blocks that read the tokens.
    identity: Whether a learned vector of its own is added to each latent at every tick. Without it
      nothing keeps latents apart but their start: trained ones were one vector after four ticks.
    places: Whether these vectors start as places, the cells of a grid in Fourier features, and not
      as noise. Nothing binds a latent to its place.
  """

  num_predict_layers: Layers = 1
  num_correct_layers: Layers = 1
  identity: bool = False
  places: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.places and not self.identity:
      raise ValueError(
        "PredictCorrectConfig: places=True says where the vectors of identity start, and "
        "identity=False; set it, or leave places off."
      )


def places(num: int, dim: int) -> Float[np.ndarray, "L D"]:
  """Returns vectors for the cells of a grid of `num` cells, as square as can be, row-major.

  They are Fourier features of the centres, mixed at random into `dim` numbers of about unit size.
  """
  rows = next(r for r in range(math.isqrt(num), 0, -1) if num % r == 0)
  grid = (rows, num // rows)
  features = fourier_linear(coordinates(grid), _BANDS, [max(2, n) for n in grid])
  mix = np.random.default_rng(0).standard_normal((features.shape[1], dim))
  return features @ mix / np.sqrt(np.mean(np.sum(np.square(features), axis=1)))


class PredictCorrect(hk.RNNCore):
  """s ← norm(correct(predict(s), tokens)).

  The state is the latent array `[B, L, D]`, float32, normalised, so it stays bounded however long
  the stream is. It starts from a learned array.

  Source: van Steenkiste et al. 2024 (MooG); representations4d `moog/modules.py`. Differs: learned
  start (there N(0, 1e-4²)), tokens masked per row, several modalities, `identity`.
  """

  READS = r"correct_\d+/cross_attention"  # where it attends to the tokens

  def __init__(self, config: PredictCorrectConfig, precision: Precision, *, name: str):
    super().__init__(name=name)
    config.validate()
    self.config = config
    self.precision = precision

  @hk.name_like("__call__")
  def initial_state(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns the learned first state, once per row."""
    c = self.config
    return LearnedPositions(c.num_latents, c.latent_dim, name="first_latents")(batch_size)

  def __call__(
    self, inputs: CoreInputs, prev_state: Float[Array, "B L D"]
  ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """Returns the next state twice: as output and as state."""
    c = self.config
    fresh = self.initial_state(prev_state.shape[0])
    x = spread(self.precision.cast(select(inputs.is_first, fresh, prev_state)))
    if c.identity:
      start = places(c.num_latents, c.latent_dim) if c.places else None
      own = LearnedPositions(
        c.num_latents, c.latent_dim, init_scale=1.0, start=start, name="identity"
      )
      x = x + self.precision.cast(own(x.shape[0]))
    for i in range(c.num_predict_layers):
      x = self._block(f"predict_{i}")(x)
    for i in range(c.num_correct_layers):
      x = self._block(f"correct_{i}")(x, inputs.tokens, inputs.visible)
    next_state = LayerNorm(use_offset=False, eps=1e-4, name="state_norm")(x.astype(jnp.float32))
    next_state = spread(next_state)
    return next_state, next_state

  @hk.name_like("__call__")
  def _block(self, name: str) -> ParallelBlock:
    c = self.config
    return ParallelBlock(
      c.num_heads, qkv_dim=c.latent_dim, mlp_dim=c.mlp_factor * c.latent_dim, name=name
    )
