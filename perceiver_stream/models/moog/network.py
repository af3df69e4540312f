"""Haiku modules of MooG.

The two published forms differ in the normalisation of the state: before the step in the Ego4D
checkpoint, after it in the training code. The frame encoder does not depend on the state, and the
state does not depend on the decoder, so only prediction and correction are inside the scan.

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

  The first dense layer exists if `hidden_dim` is set. The last one exists if `output_dim` is set,
  or if `hidden_dim` differs from the input's width, which it then restores.
  """

  @hk.name_like("__call__")
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
    self.output_dim = output_dim
    self.input = Linear(hidden_dim, name="input") if hidden_dim else None
    sizes = {"qkv_dim": config.qkv_dim, "mlp_dim": config.mlp_dim, "use_self": use_self}
    self.blocks = [
      ParallelBlock(config.num_heads, **sizes, name=f"block_{i}") for i in range(config.num_layers)
    ]
    self.norm = LayerNorm(use_offset=False, name="norm")

  def __call__(
    self, x: Float[Array, "B Q E"], y: Float[Array, "B N C"] | None = None
  ) -> Float[Array, "B Q K"]:
    """Returns the transformed `x`, which attends to `y`."""
    width = x.shape[-1]
    x = self.input(x) if self.input else x
    for block in self.blocks:
      x = block(x, y)
    x = self.norm(x)
    output_dim = self.output_dim or (width if x.shape[-1] != width else None)
    return Linear(output_dim, name="output")(x) if output_dim else x


class FrameEncoder(hk.Module):
  """Convolutions, positions and a dense layer: one token per cell of a coarse grid."""

  @hk.name_like("__call__")
  def __init__(self, config: EncoderConfig, *, float32_positions: bool = True, name: str):
    super().__init__(name=name)
    c = self.config = config
    self.float32_positions = float32_positions
    self.convs = ConvStack(c.channels, c.strides, kernels=c.kernels, name="convs")
    self.norm = LayerNorm(use_offset=False, name="conv_norm")
    self.stack = Stack(StackConfig(num_layers=0), hidden_dim=c.hidden_dim, name="stack")

  def __call__(
    self, frames: Float[Array, "B H W K"], positions: Float[Array, "h w P"] | None = None
  ) -> Float[Array, "B N C"]:
    """Returns the tokens; `positions` replaces the computed features of the coarse grid."""
    return self.tokens(self.convs(frames), positions)

  @hk.name_like("__call__")
  def tokens(
    self, x: Float[Array, "B h w C"], positions: Float[Array, "y x P"] | None = None
  ) -> Float[Array, "B N K"]:
    """Returns the tokens from the output of the last convolution."""
    c = self.config
    x = self.norm(x) if c.normalise else x
    batch, height, width, channels = x.shape
    table = position_table((height, width), c.num_octaves, self.float32_positions, positions)
    x = x.reshape(batch, height * width, channels)
    x = place(x, repeat_rows(table.astype(x.dtype), batch), add=c.add_positions)
    return self.stack(x)


class DenseDecoder(hk.Module):
  """Cross-attention from positions to the latents; a query consists of its position only."""

  @hk.name_like("__call__")
  def __init__(self, config: DecoderConfig, output_dim: int, *, name: str):
    super().__init__(name=name)
    self.config = config
    self.stack = Stack(config.stack, use_self=config.use_self, name="stack")
    self.output = Linear(output_dim, name="output")

  def __call__(
    self, latents: Float[Array, "B L D"], positions: Float[Array, "B Q P"]
  ) -> Float[Array, "B Q K"]:
    """Returns the outputs of the queries."""
    return self.chunked(
      lambda p: self.output(self.stack(self.queries(latents, p), latents)), positions
    )

  def chunked(
    self, f: Callable[[Array], Array], queries: Float[Array, "B Q ..."]
  ) -> Float[Array, "B Q ..."]:
    """Returns `f(queries)`, in chunks if queries do not attend to each other."""
    size = None if self.config.use_self else max(1, self.config.chunk // queries.shape[0])
    return in_chunks(f, queries, size)

  @hk.name_like("__call__")
  def queries(
    self, latents: Float[Array, "B L D"], positions: Float[Array, "B Q P"]
  ) -> Float[Array, "B Q E"]:
    """Returns the queries of positions, in the latents' width and dtype."""
    blank = jnp.zeros((*positions.shape[:2], latents.shape[-1]), latents.dtype)
    return place(blank, positions.astype(latents.dtype), add=self.config.add_positions)


class Moog(hk.Module):
  """The network: encodes frames, predicts and corrects the state, decodes pixels from any state."""

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "moog"):
    super().__init__(name=name)
    c = self.config = config
    self.encoder = FrameEncoder(c.encoder, float32_positions=c.float32_positions, name="encoder")
    self.predictor = Stack(c.predictor, name="predictor")
    self.projection = Linear(c.latent_dim, name="gradient_projection")
    self.corrector = Stack(c.corrector, name="corrector")
    self.norm = LayerNorm(use_offset=False, eps=c.state_eps, name="state_norm")
    self.decoder = DenseDecoder(c.decoder, c.channels, name="decoder") if c.decoder else None
    self.core = PredictCorrect(
      first=self.initial_state,
      predict=lambda state: state + self.predictor(state),
      correct=self._correct,
      norm=self.norm,
      norm_first=c.norm_first,
      name="recurrence",
    )

  def encode(
    self, frames: Float[Array, "T B H W K"], positions: Float[Array, "h w P"] | None = None
  ) -> Float[Array, "T B N C"]:
    """Returns tokens of all frames, values in [0, 1], computed at once outside the scan."""
    tokens = self.encoder(frames.reshape(-1, *frames.shape[2:]), positions)
    return tokens.reshape(*frames.shape[:2], *tokens.shape[1:])

  def initial_state(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns the initial state, drawn with the call's random key if there is one."""
    c = self.config
    key = hk.maybe_next_rng_key()
    key = jax.random.key(0) if key is None else key
    return self.start(jax.random.normal(key, (batch_size, c.num_latents, c.latent_dim)))

  def start(self, noise: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """Returns the initial state from standard normal noise."""
    state = noise * self.config.init_scale
    return state if self.config.norm_first else self.norm(state)

  def unroll(self, inputs: CoreInputs, state: Float[Array, "B L D"]) -> tuple[Step, Array]:
    """Returns the states of T ticks, `[T, B, L, D]`, and the last; inputs have a leading T.

    With `use_loss_gradient`, `inputs.beside` contains sampled pixels of the frames `[T, B, Q, K]`
    and the features of their positions `[T, B, Q, P]`.
    """
    step = hk.remat(self.core.step) if self.config.remat else self.core.step
    unrolled: Any = hk.dynamic_unroll(step, inputs, state)
    return unrolled

  def decode(
    self, latents: Float[Array, "B L D"], positions: Float[Array, "B Q P"]
  ) -> Float[Array, "B Q K"]:
    """Returns the colours at the given position features.

    Raises:
      ValueError: There is no decoder.
    """
    if self.decoder is None:
      raise ValueError("MooG: this model has no decoder (config.decoder is None).")
    return self.decoder(latents, positions)

  def futures(
    self, state: Float[Array, "B L D"], displacements: Sequence[int]
  ) -> Float[Array, "K B L D"]:
    """Returns the states after each of the displacements, without frames; 0 is the state itself."""
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
    """Returns the gradient of the prediction's error, the sum over rows of mean squared errors."""

    if inputs.beside is None:
      raise ValueError("MooG: use_loss_gradient needs targets and their positions in every tick.")
    targets, positions = inputs.beside

    def error(state: Array) -> Array:
      squared = jnp.square(self.decode(state, positions) - targets)
      return jnp.sum(jnp.mean(squared, axis=(1, 2)))

    gradient: Any = hk.grad(error)(predicted)
    return gradient
