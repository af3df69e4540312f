"""A core whose latents compete for the tokens: slot attention, then a transformer as prediction."""

from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from perceiver_stream.core.base import Core, CoreInputs, detach_rows, reset_rows
from perceiver_stream.nn import LayerNorm, Linear, repeat_rows, where_rows
from perceiver_stream.types import Count, Size

_FLOOR = 1e-8  # added to the sum of a slot's weights


@dataclass(kw_only=True)
class SlotConfig:
  """Sizes of `Slots`; defaults are SAVi-S.

  Attributes:
    num_slots: Latents that compete.
    dim: Width of a slot.
    qkv_dim: Width of queries, keys and values of the slot attention over all heads; 0: `dim`.
    num_heads: Heads of the slot attention.
    num_iterations: Rounds of slot attention per tick.
    mlp_dim: Hidden width of the MLP after each round; 0: none.
    predictor_qkv_dim: As `qkv_dim`, of the prediction.
    predictor_heads: Attention heads of the prediction.
    predictor_mlp_dim: Hidden width of its MLP.
  """

  num_slots: Size = 24
  dim: Size = 128
  qkv_dim: Count = 0
  num_heads: Size = 1
  num_iterations: Size = 1
  mlp_dim: Count = 0
  predictor_qkv_dim: Count = 0
  predictor_heads: Size = 4
  predictor_mlp_dim: Size = 256


class SlotState(NamedTuple):
  """State of `Slots`.

  Attributes:
    predicted: Slots predicted for the next tick: what is carried.
    corrected: Slots after the observation of this tick: what is decoded.
  """

  predicted: Float[Array, "*T B S D"]
  corrected: Float[Array, "*T B S D"]


class Slots(Core):
  """Slot attention corrects the slots, a post-norm transformer predicts them.

  The softmax is over the slots, so that they compete for each token; a slot's update is the mean of
  the tokens weighted by what it won, through a GRU.

  Source: SAVi 2022, 2111.12594; google-research/slot-attention-video.
  """

  def __init__(self, config: SlotConfig, *, name: str = "slots"):
    super().__init__(name=name)
    self.config = config

  @hk.name_like("__call__")
  def initial_state(self, batch_size: int) -> SlotState:
    """Returns the learned slots; to condition on cues, give `CoreInputs.start` at `is_first`."""
    c = self.config
    init = hk.initializers.RandomNormal(1.0)
    first = hk.get_parameter("first", (c.num_slots, c.dim), jnp.float32, init)
    slots = repeat_rows(first, batch_size)
    return SlotState(slots, slots)

  def __call__(self, inputs: CoreInputs, prev_state: SlotState) -> tuple[SlotState, SlotState]:
    """Returns the state after a tick; without an observation, slots are only predicted."""
    start = inputs.start
    if start is not None:
      inputs = inputs._replace(start=SlotState(start, start))  # type: ignore[arg-type]
    state = reset_rows(inputs, prev_state, lambda: self.initial_state(len(inputs.tokens)))
    before = detach_rows(inputs, state).predicted
    corrected, _ = self.correct(before, inputs.tokens)
    if inputs.valid is not None:
      corrected = where_rows(inputs.valid, corrected, before)
    after = SlotState(self.predict(corrected)[0], corrected)
    return after, after

  def latents(self, state: SlotState) -> Float[Array, "*T B S D"]:
    """Returns the corrected slots."""
    return state.corrected

  @hk.name_like("__call__")
  def correct(
    self, slots: Float[Array, "B S D"], tokens: Float[Array, "B N C"]
  ) -> tuple[Float[Array, "B S D"], Float[Array, "B M S N"]]:
    """Returns the slots after all rounds, and the last round's share of each slot in each token."""
    c = self.config
    weights = jnp.zeros((len(slots), c.num_heads, slots.shape[1], tokens.shape[1]))
    width = c.qkv_dim or c.dim
    normed = LayerNorm(name="token_norm")(tokens)
    keys, values = (self._heads(name, normed, width) for name in ("key", "value"))
    norm, query = LayerNorm(name="slot_norm"), Linear(width, use_bias=False, name="query")
    gru, mlp = SlotGru(c.dim, name="gru"), ReluMLP(c.mlp_dim, c.dim, pre_norm=True, name="mlp")
    merge = Linear(width // c.num_heads, name="merge")
    for _ in range(c.num_iterations):
      queries = rearrange(query(norm(slots)), "b s (m f) -> b s m f", m=c.num_heads)
      logits = jnp.einsum("bsmf,bnmf->bmsn", queries, keys) / keys.shape[-1] ** 0.5
      weights = jax.nn.softmax(logits, axis=2)
      mean = weights / (jnp.sum(weights, axis=-1, keepdims=True) + _FLOOR)
      update = rearrange(jnp.einsum("bmsn,bnmf->bsmf", mean, values), "b s m f -> b s (m f)")
      slots = gru(slots, merge(update) if c.num_heads > 1 else update)
      slots = slots + mlp(slots) if c.mlp_dim else slots
    return slots, weights

  @hk.name_like("__call__")
  def predict(
    self, slots: Float[Array, "B S D"]
  ) -> tuple[Float[Array, "B S D"], Float[Array, "B M S S"]]:
    """Returns the slots of the next tick, and the attention between slots."""
    c = self.config
    width, heads = c.predictor_qkv_dim or c.dim, c.predictor_heads

    def mapped(name: str) -> Array:
      x = Linear(width, name=f"predictor_{name}")(slots)
      return rearrange(x, "b s (m f) -> b s m f", m=heads)

    queries, keys, values = (mapped(name) for name in ("query", "key", "value"))
    logits = jnp.einsum("bsmf,btmf->bmst", queries, keys) / keys.shape[-1] ** 0.5
    weights = jax.nn.softmax(logits, axis=-1)
    gathered = rearrange(jnp.einsum("bmst,btmf->bsmf", weights, values), "b s m f -> b s (m f)")
    x = LayerNorm(name="predictor_norm_0")(slots + Linear(c.dim, name="predictor_output")(gathered))
    hidden = ReluMLP(c.predictor_mlp_dim, c.dim, name="predictor_mlp")(x)
    return LayerNorm(name="predictor_norm_1")(x + hidden), weights

  @hk.name_like("__call__")
  def _heads(self, name: str, x: Array, width: int) -> Float[Array, "B N M F"]:
    x = Linear(width, use_bias=False, name=name)(x)
    return rearrange(x, "b n (m f) -> b n m f", m=self.config.num_heads)


class ReluMLP(hk.Module):
  """Dense, ReLU, dense; with `pre_norm`, of the normalised input."""

  def __init__(self, hidden_dim: int, output_dim: int, *, pre_norm: bool = False, name: str):
    super().__init__(name=name)
    self.hidden_dim, self.output_dim, self.pre_norm = hidden_dim, output_dim, pre_norm

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... K"]:
    """Returns an array of width `output_dim`."""
    x = LayerNorm(name="norm")(x) if self.pre_norm else x
    hidden = jax.nn.relu(Linear(self.hidden_dim, name="hidden")(x))
    return Linear(self.output_dim, name="output")(hidden)


class SlotGru(hk.Module):
  """A GRU whose candidate multiplies the reset gate with the mapped state, as flax's."""

  def __init__(self, dim: int, *, name: str):
    super().__init__(name=name)
    self.dim = dim

  def __call__(
    self, state: Float[Array, "*B D"], inputs: Float[Array, "*B C"]
  ) -> Float[Array, "*B D"]:
    """Returns the next state."""
    mapped = lambda name, bias, x: Linear(self.dim, use_bias=bias, name=name)(x)  # noqa: E731
    reset, keep = (
      jax.nn.sigmoid(mapped(f"{gate}_input", True, inputs) + mapped(f"{gate}_state", False, state))
      for gate in ("reset", "keep")
    )
    new = mapped("new_input", True, inputs) + reset * mapped("new_state", True, state)
    return (1 - keep) * jnp.tanh(new) + keep * state
