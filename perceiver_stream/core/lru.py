"""The gated linear recurrent unit of TRecViT: linear in its state, run as a parallel scan."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.causal import causal_taps
from perceiver_stream.nn import BlockLinear, Linear, gelu, where_rows
from perceiver_stream.types import Count, Positive, Share, Size


@dataclass(kw_only=True)
class GatedLruConfig:
  """Sizes of a `GatedLru`.

  Attributes:
    dim: Width of the recurrence.
    conv_width: Width in ticks of the preceding depthwise convolution; 4 in the paper, 2 in its
      code.
    min_radius: Smallest initial decay per tick; 0.6 in the paper, 0.7 in its code.
    max_radius: Largest initial decay per tick.
    sharpness: c of a = exp(-c · softplus(Λ) · r).
    gate_blocks: Blocks of the block-diagonal gates, which divide `dim`; 0: full matrices.
    full_first: If True, the factor √(1 - a²) of the input is 1 at the first tick of a recording.
  """

  dim: Size = 64
  conv_width: Size = 4
  min_radius: Share = 0.6
  max_radius: Share = 0.999
  sharpness: Positive = 8.0
  gate_blocks: Count = 0
  full_first: bool = False

  @classmethod
  def released(cls, dim: int, gate_blocks: int, **options: Any) -> "GatedLruConfig":
    """Returns the options of the released code: block-diagonal gates and a full first step."""
    return cls(dim=dim, gate_blocks=gate_blocks, full_first=True, **options)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.gate_blocks and self.dim % self.gate_blocks:
      raise ValueError(
        f"GatedLruConfig: dim={self.dim} is not a multiple of gate_blocks={self.gate_blocks}; "
        f"change one of them."
      )


class LruState(NamedTuple):
  """State of a `GatedLru`.

  Attributes:
    hidden: Hidden state of the recurrence.
    seen: The newest inputs of the convolution, the oldest first.
  """

  hidden: Float[Array, "*T B N E"]
  seen: Float[Array, "*T B K N E"]


class GatedLru(hk.RNNCore):
  """y = W (GELU(V x) ⊙ h), h ← a ⊙ h + √(1 - a²) ⊙ (i ⊙ u), u a causal convolution of U x.

  a = exp(-c · softplus(Λ) · r); r and i are σ of linear maps of u. Every token has its own
  past: N tokens are N rows. `unroll` is a parallel scan; one call per tick gives the same result.

  Source: TRecViT 2024, 2412.14294, after Griffin (2402.19427); google-deepmind/recurrentgemma.
    Differs: by default, gates are full matrices and the first step is like all others;
    `GatedLruConfig.released` has the options of the released code.
  """

  def __init__(self, config: GatedLruConfig, num_tokens: int, *, name: str):
    super().__init__(name=name)
    config.validate()
    self.config = config
    self.num_tokens = num_tokens

  def initial_state(self, batch_size: int) -> LruState:
    """Returns zeros."""
    c, n = self.config, self.num_tokens
    past = jnp.zeros((batch_size, c.conv_width - 1, n, c.dim))
    return LruState(jnp.zeros((batch_size, n, c.dim)), past)

  def __call__(
    self, inputs: tuple[Float[Array, "B N D"], Bool[Array, " B"]], prev_state: LruState
  ) -> tuple[Float[Array, "B N D"], LruState]:
    """Returns the output of a tick and the next state; inputs are tokens and `is_first`."""
    x, is_first = inputs
    taps = self._taps(x[None], is_first[None], prev_state)[0]
    decay, inflow = self._gates(self._filtered(taps), is_first)
    before = where_rows(is_first, 0.0, prev_state.hidden)
    hidden = decay * before + inflow
    return self._output(x, hidden), LruState(hidden, taps[:, 1:])

  def unroll(
    self, x: Float[Array, "T B N D"], is_first: Bool[Array, "T B"], state: LruState
  ) -> tuple[Float[Array, "T B N D"], LruState]:
    """Returns the outputs and states of all ticks, computed in parallel."""
    taps = self._taps(x, is_first, state)
    decay, inflow = self._gates(self._filtered(taps), is_first)
    decay = where_rows(is_first, 0.0, decay)
    inflow = inflow.at[0].add(decay[0] * state.hidden)
    _, hidden = jax.lax.associative_scan(_compose, (decay, inflow))
    return self._output(x, hidden), LruState(hidden, taps[:, :, 1:])

  @hk.name_like("__call__")
  def _taps(self, x: Array, is_first: Array, state: LruState) -> Float[Array, "T B K N E"]:
    """Returns the inputs of the convolution at each tick."""
    return causal_taps(Linear(self.config.dim, name="input")(x), state.seen, is_first)

  @hk.name_like("__call__")
  def _filtered(self, taps: Float[Array, "*T B K N E"]) -> Float[Array, "*T B N E"]:
    c = self.config
    init = hk.initializers.RandomNormal(c.conv_width**-0.5)
    kernel = hk.get_parameter("conv_w", (c.conv_width, c.dim), jnp.float32, init)
    bias = hk.get_parameter("conv_b", (c.dim,), jnp.float32, jnp.zeros)
    filtered = jnp.einsum("...kne,ke->...ne", taps, kernel)
    return filtered + jnp.broadcast_to(bias, filtered.shape)

  @hk.name_like("__call__")
  def _gates(self, u: Array, is_first: Array) -> tuple[Array, Array]:
    """Returns the decay and the gated input."""
    c = self.config
    r = jax.nn.sigmoid(self._gate("recurrence_gate")(u))
    i = jax.nn.sigmoid(self._gate("input_gate")(u))
    rate = jax.nn.softplus(hk.get_parameter("decay", (c.dim,), jnp.float32, self._decays))
    log_a = -c.sharpness * r * jnp.broadcast_to(rate, r.shape)
    factor = jnp.sqrt(-jnp.expm1(2 * log_a) + 1e-8)
    factor = where_rows(is_first, 1.0, factor) if c.full_first else factor
    inflow = factor * i * u
    return jnp.exp(log_a), inflow

  @hk.name_like("__call__")
  def _gate(self, name: str) -> Linear | BlockLinear:
    c = self.config
    return BlockLinear(c.gate_blocks, name=name) if c.gate_blocks else Linear(c.dim, name=name)

  def _decays(self, shape, dtype) -> Array:
    """Returns Λ such that, with open gates, decays are uniform in the ring between the radii."""
    c = self.config
    uniform = jax.random.uniform(hk.next_rng_key(), tuple(shape), dtype)
    radius = jnp.sqrt(c.min_radius**2 + uniform * (c.max_radius**2 - c.min_radius**2))
    return jnp.log(jnp.expm1(-jnp.log(radius) / c.sharpness))

  @hk.name_like("__call__")
  def _output(self, x: Array, hidden: Array) -> Array:
    gate = gelu(Linear(self.config.dim, name="gate")(x))
    return Linear(x.shape[-1], name="output")(gate * hidden)


def _compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
  (a, b), (c, d) = first, second
  return a * c, c * b + d
