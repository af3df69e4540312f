"""The gated latent array of RVM: a transformer proposes, gates decide what to keep."""

from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.core.predict_correct import CoreConfig, CoreInputs
from perceiver_stream.nn import (
  CrossBlock,
  LayerNorm,
  LearnedPositions,
  Linear,
  Precision,
  SelfBlock,
  select,
  spread,
)
from perceiver_stream.types import Layers


@dataclass(kw_only=True)
class GatedConfig(CoreConfig):
  """Sizes of a `Gated` core.

  Attributes:
    num_layers: Depth of the proposing transformer; a layer is cross-attention, then self.
  """

  num_layers: Layers = 2


class Gated(hk.RNNCore):
  """s ← (1 - u) s + u h, with h a transformer of what was seen and r ⊙ norm(s).

  e are L learned queries that read the tokens; u = σ(W e + W s) and r = σ(W e + W s) have no
  biases. The state starts at zero.

  Source: Recurrent Video Masked Autoencoders 2025, 2512.13684; representations4d, RVM notebooks.
  Differs: e comes from cross-attention to the tokens of any modalities, there it is the frame's
  own token grid.
  """

  READS = "read/attention"  # where it attends to the tokens

  def __init__(self, config: GatedConfig, precision: Precision, *, name: str):
    super().__init__(name=name)
    config.validate()
    self.config = config
    self.precision = precision

  def initial_state(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns zeros."""
    return jnp.zeros((batch_size, self.config.num_latents, self.config.latent_dim), jnp.float32)

  def __call__(
    self, inputs: CoreInputs, prev_state: Float[Array, "B L D"]
  ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """Returns the next state twice: as output and as state."""
    c = self.config
    s = select(inputs.is_first, 0.0, prev_state)
    e = LearnedPositions(c.num_latents, c.latent_dim, name="queries")(s.shape[0])
    e = self._cross("read")(self.precision.cast(e), inputs.tokens, inputs.visible)
    e, state = spread(e), spread(self.precision.cast(s))
    update = self._gate(e, state, "update")
    reset = self._gate(e, state, "reset")
    memory = reset * LayerNorm(use_offset=False, eps=1e-4, name="state_norm")(state)
    h = e
    for i in range(c.num_layers):
      h = self._cross(f"cross_{i}")(h, memory)
      h = SelfBlock(c.num_heads, mlp_dim=c.mlp_factor * c.latent_dim, name=f"self_{i}")(h)
    h = LayerNorm(name="output_norm")(h).astype(jnp.float32)
    update = update.astype(jnp.float32)
    next_state = spread((1 - update) * s + update * h)
    return next_state, next_state

  @hk.name_like("__call__")
  def _gate(self, e: Array, state: Array, name: str) -> Array:
    dim = self.config.latent_dim
    return jax.nn.sigmoid(
      Linear(dim, use_bias=False, name=f"{name}_input")(e)
      + Linear(dim, use_bias=False, name=f"{name}_state")(state)
    )

  @hk.name_like("__call__")
  def _cross(self, name: str) -> CrossBlock:
    c = self.config
    return CrossBlock(
      c.num_heads, qk_dim=c.latent_dim, mlp_dim=c.mlp_factor * c.latent_dim, name=name
    )
