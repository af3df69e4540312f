"""The residual block of Griffin: a gated LRU over time, then optionally a gated MLP."""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.lru import GatedLru, GatedLruConfig, LruState
from perceiver_stream.nn import Linear, RMSNorm, gelu
from perceiver_stream.nn.layers import lecun_normal


class GatedMLP(hk.Module):
  """W (GELU(a) ⊙ b), where a and b are two linear maps of the input."""

  def __init__(self, hidden_dim: int, *, name: str):
    super().__init__(name=name)
    self.hidden_dim = hidden_dim

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns an array of the input's width."""
    shape = (2, x.shape[-1], self.hidden_dim)
    w = hk.get_parameter("up_w", shape, jnp.float32, lecun_normal())
    b = hk.get_parameter("up_b", (2, self.hidden_dim), jnp.float32, jnp.zeros)
    gate, value = (
      jnp.dot(x, w[i]) + jnp.broadcast_to(b[i], (*x.shape[:-1], self.hidden_dim)) for i in range(2)
    )
    return Linear(x.shape[-1], name="down")(gelu(gate) * value)


class GriffinBlock(hk.Module):
  """x += LRU(norm(x)); with an MLP, x += MLP(norm(x)). Norms are RMS norms times 1 + scale.

  Every token has its own past and can be reset on its own, so tokens of a frame can come and go.

  Source: Griffin, 2402.19427; google-deepmind/recurrentgemma, `ResidualBlock`.
  """

  @hk.name_like("__call__")
  def __init__(self, config: GatedLruConfig, mlp_dim: int = 0, *, name: str):
    """Creates the block.

    Args:
      config: Sizes of the LRU.
      mlp_dim: Hidden width of the MLP; 0: no MLP.
      name: Haiku name.
    """
    super().__init__(name=name)
    self.mlp_dim = mlp_dim
    self.lru = GatedLru(config, 1, name="lru")

  def initial_state(self, batch_size: int, num_tokens: int) -> LruState:
    """Returns zeros, `[B * N, 1, E]` and `[B * N, K, 1, E]`."""
    return self.lru.initial_state(batch_size * num_tokens)

  def __call__(
    self, x: Float[Array, "T B N D"], is_first: Bool[Array, "T B N"], state: LruState
  ) -> tuple[Float[Array, "T B N D"], LruState]:
    """Returns the tokens and the states after each of T ticks, computed in parallel.

    Args:
      x: Tokens.
      is_first: True where a token's past ends: it starts anew at this tick.
      state: State before the first tick.
    """
    ticks, rows, tokens, width = x.shape
    normed = RMSNorm(add_one=True, name="time_norm")(x)
    flat = normed.reshape(ticks, rows * tokens, 1, width)
    y, states = self.lru.unroll(flat, is_first.reshape(ticks, -1), state)
    x = x + y.reshape(x.shape)
    if self.mlp_dim:
      x = x + GatedMLP(self.mlp_dim, name="mlp")(RMSNorm(add_one=True, name="mlp_norm")(x))
    return x, states
