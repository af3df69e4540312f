"""MooG: a latent array that moves with the things it sees.

Two published forms share all parts and differ in where the state is normalised: the Ego4D
checkpoint (before the step) and the training code (after it). The frame encoder does not depend on
the state and the decoder does not feed it, so only predict and correct are inside the scan.

Source: van Steenkiste et al. 2024, Moving Off-the-Grid; representations4d, `moog/modules.py`,
`moog/configs/movi.py` and the inference notebook.
"""

from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.core import CoreInputs, PredictCorrect, Step
from perceiver_stream.models.moog.config import Config, DecoderConfig, EncoderConfig, StackConfig
from perceiver_stream.models.moog.sampling import place, position_table
from perceiver_stream.nn import (
  ConvStack,
  LayerNorm,
  Linear,
  ParallelBlock,
  in_chunks,
  repeat_rows,
)


class Stack(hk.Module):
  """MooG's transformer: dense, parallel blocks, norm, dense.

  The first dense layer exists with `hidden_dim`, the last one with `output_dim`, or if
  `hidden_dim` is not the input's width, which it then restores.
  """

  def __init__(
    self,
    config: StackConfig,
    *,
    hidden_dim: int | None = None,
    output_dim: int | None = None,
    use_self: bool = True,
    name: str,
  ):
    super().__init__(name=name)
    self.config = config
    self.hidden_dim = hidden_dim
    self.output_dim = output_dim
    self.use_self = use_self

  def __call__(
    self, x: Float[Array, "B Q E"], y: Float[Array, "B N C"] | None = None
  ) -> Float[Array, "B Q K"]:
    """Returns the transformed `x`; `y` is what it reads."""
    c, width = self.config, x.shape[-1]
    if self.hidden_dim:
      x = Linear(self.hidden_dim, name="input")(x)
    for i in range(c.num_layers):
      x = self.block(i, x, y)
    return self.finished(x, width)

  @hk.name_like("__call__")
  def block(self, i: int, x: Float[Array, "B Q E"], y: Float[Array, "B N C"] | None) -> Array:
    """Returns the outcome of block i, `[B, Q, E]`."""
    c = self.config
    block = ParallelBlock(
      c.num_heads, qkv_dim=c.qkv_dim, mlp_dim=c.mlp_dim, use_self=self.use_self, name=f"block_{i}"
    )
    return block(x, y)

  @hk.name_like("__call__")
  def finished(self, x: Float[Array, "B Q E"], width: int) -> Float[Array, "B Q K"]:
    """Returns what comes after the blocks; `width` is that of what the stack was given."""
    x = LayerNorm(use_offset=False, name="norm")(x)
    output_dim = self.output_dim or (width if x.shape[-1] != width else None)
    return Linear(output_dim, name="output")(x) if output_dim else x


class FrameEncoder(hk.Module):
  """Convolutions, positions, one dense layer: one token per cell of a coarse grid."""

  def __init__(self, config: EncoderConfig, *, float32_positions: bool = True, name: str):
    super().__init__(name=name)
    self.config = config
    self.float32_positions = float32_positions

  def __call__(
    self, frames: Float[Array, "B H W K"], positions: Float[Array, "h w P"] | None = None
  ) -> Float[Array, "B N C"]:
    """Returns the tokens; `positions` replaces the computed features of the coarse grid."""
    return self.tokens(self.convs()(frames), positions)

  @hk.name_like("__call__")
  def convs(self) -> ConvStack:
    """Returns the convolutions."""
    c = self.config
    return ConvStack(c.channels, c.strides, kernels=c.kernels, name="convs")

  @hk.name_like("__call__")
  def filtered(self, i: int, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns what convolution i makes of the features before it."""
    return self.convs().layer(i, x)

  @hk.name_like("__call__")
  def tokens(
    self, x: Float[Array, "B h w C"], positions: Float[Array, "y x P"] | None = None
  ) -> Float[Array, "B N K"]:
    """Returns the tokens of features that went through all convolutions."""
    c = self.config
    x = LayerNorm(use_offset=False, name="conv_norm")(x) if c.normalise else x
    batch, height, width, channels = x.shape
    table = position_table((height, width), c.num_octaves, self.float32_positions, positions)
    x = x.reshape(batch, height * width, channels)
    x = place(x, repeat_rows(table.astype(x.dtype), batch), add=c.add_positions)
    return Stack(StackConfig(num_layers=0), hidden_dim=c.hidden_dim, name="stack")(x)


class DenseDecoder(hk.Module):
  """Positions ask the latents what is there; queries are nothing but positions."""

  def __init__(self, config: DecoderConfig, output_dim: int, *, name: str):
    super().__init__(name=name)
    self.config = config
    self.output_dim = output_dim

  def __call__(
    self, latents: Float[Array, "B L D"], positions: Float[Array, "B Q P"]
  ) -> Float[Array, "B Q K"]:
    """Returns the answers."""
    return self.chunked(lambda p: self._answer(latents, p), positions)

  def chunked(
    self, f: Callable[[Array], Array], queries: Float[Array, "B Q ..."]
  ) -> Float[Array, "B Q ..."]:
    """Returns `f(queries)`, in chunks if queries do not attend to each other."""
    size = None if self.config.use_self else max(1, self.config.chunk // queries.shape[0])
    return in_chunks(f, queries, size)

  @hk.name_like("__call__")
  def _answer(self, latents: Array, positions: Array) -> Array:
    x = self.asked(latents, positions)
    for i in range(self.config.stack.num_layers):
      x = self.attended(i, x, latents)
    return self.answered(x)

  @hk.name_like("__call__")
  def asked(
    self, latents: Float[Array, "B L D"], positions: Float[Array, "B Q P"]
  ) -> Float[Array, "B Q E"]:
    """Returns the queries before they have read anything: in the latents' width and dtype."""
    blank = jnp.zeros((*positions.shape[:2], latents.shape[-1]), latents.dtype)
    return place(blank, positions.astype(latents.dtype), add=self.config.add_positions)

  @hk.name_like("__call__")
  def attended(
    self, i: int, x: Float[Array, "B Q E"], latents: Float[Array, "B L D"]
  ) -> Float[Array, "B Q E"]:
    """Returns the queries after block i has read the latents."""
    return self._stack().block(i, x, latents)

  @hk.name_like("__call__")
  def answered(self, x: Float[Array, "B Q E"]) -> Float[Array, "B Q K"]:
    """Returns the answers of queries that went through all blocks."""
    x = self._stack().finished(x, x.shape[-1])
    return Linear(self.output_dim, name="output")(x)

  @hk.name_like("__call__")
  def _stack(self) -> Stack:
    return Stack(self.config.stack, use_self=self.config.use_self, name="stack")


class Moog(hk.Module):
  """The model: encode frames, predict and correct the state, decode pixels from any state."""

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "moog"):
    super().__init__(name=name)
    c = self.config = config
    self.predictor = Stack(c.predictor, name="predictor")
    self.projection = Linear(c.latent_dim, name="gradient_projection")
    self.corrector = Stack(c.corrector, name="corrector")
    self.norm = LayerNorm(use_offset=False, eps=c.state_eps, name="state_norm")
    self.core = PredictCorrect(
      first=self.initial_state,
      predict=lambda state: state + self.predictor(state),
      correct=self._correct,
      norm=self.norm,
      norm_first=c.norm_first,
      name="recurrence",
    )

  @hk.name_like("__call__")
  def encode(
    self, frames: Float[Array, "T B H W K"], positions: Float[Array, "h w P"] | None = None
  ) -> Float[Array, "T B N C"]:
    """Returns tokens of all frames, values in [0, 1]; outside the scan, all at once."""
    tokens = self.encoder()(frames.reshape(-1, *frames.shape[2:]), positions)
    return tokens.reshape(*frames.shape[:2], *tokens.shape[1:])

  @hk.name_like("__call__")
  def encoder(self) -> FrameEncoder:
    """Returns the frame encoder."""
    c = self.config
    return FrameEncoder(c.encoder, float32_positions=c.float32_positions, name="encoder")

  def initial_state(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns the first state, drawn from the call's random key if there is one."""
    c = self.config
    key = hk.maybe_next_rng_key()
    key = jax.random.key(0) if key is None else key
    return self.start(jax.random.normal(key, (batch_size, c.num_latents, c.latent_dim)))

  def start(self, noise: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """Returns the first state from standard normal noise."""
    state = noise * self.config.init_scale
    return state if self.config.norm_first else self.norm(state)

  def unroll(self, inputs: CoreInputs, state: Float[Array, "B L D"]) -> tuple[Step, Array]:
    """Returns the states of T ticks, `[T, B, L, D]`, and the last; inputs have a leading T.

    With `use_loss_gradient`, `inputs.beside` holds sampled pixels of the frames `[T, B, Q, K]` and
    the features of their positions `[T, B, Q, P]`.
    """
    step = hk.remat(self.core.step) if self.config.remat else self.core.step
    unrolled: Any = hk.dynamic_unroll(step, inputs, state)
    return unrolled

  @hk.name_like("__call__")
  def decode(
    self, latents: Float[Array, "B L D"], positions: Float[Array, "B Q P"]
  ) -> Float[Array, "B Q K"]:
    """Returns the colours of the places whose position features are given."""
    return self.decoder()(latents, positions)

  @hk.name_like("__call__")
  def decoder(self) -> DenseDecoder:
    """Returns the decoder; raises ValueError if there is none."""
    if self.config.decoder is None:
      raise ValueError("MooG: this model has no decoder (config.decoder is None).")
    return DenseDecoder(self.config.decoder, self.config.channels, name="decoder")

  def futures(
    self, state: Float[Array, "B L D"], displacements: Sequence[int]
  ) -> Float[Array, "K B L D"]:
    """Returns the states so many ticks later, without frames; 0 is the state itself."""
    ahead = state[None]
    if any(displacements):
      ahead = jnp.concatenate([ahead, self.core.ahead(state, max(displacements))])
    return jnp.stack([ahead[d] for d in displacements])

  def _correct(self, predicted: Array, inputs: CoreInputs) -> Array:
    start = predicted
    if self.config.use_loss_gradient:
      slope = jax.lax.stop_gradient(self._error_gradient(predicted, inputs))
      start = self.projection(jnp.concatenate([predicted, slope], axis=-1))
    return predicted + self.corrector(start, inputs.tokens)

  def _error_gradient(self, predicted: Array, inputs: CoreInputs) -> Array:
    """Returns the gradient of the prediction's error, a sum over rows of mean squared errors."""

    if inputs.beside is None:
      raise ValueError("MooG: use_loss_gradient needs targets and their positions in every tick.")
    targets, positions = inputs.beside

    def error(state: Array) -> Array:
      squared = jnp.square(self.decode(state, positions) - targets)
      return jnp.sum(jnp.mean(squared, axis=(1, 2)))

    gradient: Any = hk.grad(error)(predicted)
    return gradient
