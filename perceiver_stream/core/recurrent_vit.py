"""Blocks of TRecViT over any set of tokens: a recurrence per token, attention within a frame."""

from dataclasses import dataclass, field

import haiku as hk
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.griffin import GriffinBlock
from perceiver_stream.core.lru import GatedLruConfig, LruState
from perceiver_stream.nn import SelfBlock
from perceiver_stream.types import Count, Layers, Size


@dataclass(kw_only=True)
class RecurrentVitConfig:
  """Sizes of a `RecurrentVit`; defaults are those of the released B classifier.

  Attributes:
    dim: Width of a token.
    num_layers: Blocks; each is a recurrence over time, then attention over the tokens of a frame.
    num_heads: Attention heads.
    mlp_dim: Hidden width of the MLPs after the attention.
    time_mlp_dim: Hidden width of the gated MLPs after the recurrence; 0: none.
    lru: Sizes of the recurrence.
    exact_gelu: Whether the MLPs after the attention have the exact GELU.
  """

  dim: Size = 768
  num_layers: Layers = 12
  num_heads: Size = 12
  mlp_dim: Size = 3072
  time_mlp_dim: Count = 0
  lru: GatedLruConfig = field(
    default_factory=lambda: GatedLruConfig.released(1536, 12, min_radius=0.5)
  )
  exact_gelu: bool = False


class RecurrentVit(hk.Module):
  """Recurrences over time for each token, and attention over the tokens of a frame, in turns.

  The state of a token is its own: tokens may start anew, and be masked, at any tick.

  Source: TRecViT 2024, 2412.14294; google-deepmind/trecvit and google-deepmind/tapnet.
  """

  @hk.name_like("__call__")
  def __init__(self, config: RecurrentVitConfig, *, name: str = "backbone"):
    super().__init__(name=name)
    self.config = config
    layers = range(config.num_layers)
    self.time = [GriffinBlock(config.lru, config.time_mlp_dim, name=f"time_{i}") for i in layers]
    self.space = [
      SelfBlock(
        config.num_heads, mlp_dim=config.mlp_dim, exact=config.exact_gelu, name=f"space_{i}"
      )
      for i in layers
    ]

  def initial_state(self, batch_size: int, num_tokens: int) -> tuple[LruState, ...]:
    """Returns zeros: the state of every layer, with `B * N` rows."""
    return tuple(block.initial_state(batch_size, num_tokens) for block in self.time)

  def __call__(
    self,
    x: Float[Array, "T B N D"],
    is_first: Bool[Array, "T B N"],
    state: tuple[LruState, ...],
    visible: Bool[Array, "T B N"] | None = None,
  ) -> tuple[list[Float[Array, "T B N D"]], tuple[LruState, ...]]:
    """Returns the tokens after each block, without a final norm, and the states after each tick.

    Args:
      x: Tokens.
      is_first: True where a token starts anew at this tick.
      state: State before the first tick.
      visible: Tokens that may be attended to; None: all.
    """
    outputs, states = [], []
    mask = None if visible is None else visible.reshape(-1, x.shape[2])
    for time, space, before in zip(self.time, self.space, state, strict=True):
      x, after = time(x, is_first, before)
      x = space(x.reshape(-1, *x.shape[2:]), mask).reshape(x.shape)
      outputs.append(x)
      states.append(after)
    return outputs, tuple(states)
