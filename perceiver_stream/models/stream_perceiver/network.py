"""The network of `stream_perceiver`: a multimodal recurrent Perceiver that predicts the future.

Tokens of all modalities correct a latent array that predicts its own next state. Queries decode
predictions from it; a query consists of a position, a modality, a displacement and the last
observation at its position. Any subset of modalities may be missing, in any row, at any tick.

Source: the recurrence is that of MooG (van Steenkiste et al. 2024), queries and the decoder follow
Perceiver IO (Jaegle et al. 2021, 2107.14795), the pixel head the spatio-temporal video autoencoder
(Pătrăucean et al. 2016, 1511.06309). The combination is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import CORES, CoreInputs
from perceiver_stream.modalities import Memory, Modality, Queries
from perceiver_stream.modalities.dense import Dense
from perceiver_stream.models.attention import Attended
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.input_memory import Remembered, grid_mask
from perceiver_stream.models.recurrent import RecurrentNetwork, State
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.nn import (
  Carrying,
  CrossBlock,
  FramePair,
  LayerNorm,
  LearnedPositions,
  Linear,
  MovingCrossBlock,
  capture_attention,
  coordinates,
  fourier_linear,
  fourier_octaves,
  in_chunks,
  mean_weights,
  repeat_rows,
  shard_axis,
)
from perceiver_stream.types import ModalitySpec, Observation

# Module names of the attention of cores to tokens.
_READS = r"/core/(read/attention|correct_\d+/cross_attention)$"


class StreamPerceiver(hk.Module, RecurrentNetwork):  # type: ignore[metaclass]  # it is an ABCMeta
  """The network; `build` makes the `Model` of it.

  A state's `extra` is what the modalities derived from the memory, kept so that it is computed
  once.
  """

  def __init__(self, config: Config, modalities: dict[str, Modality], *, name: str):
    super().__init__(name=name)
    self.config = config
    self.modalities = modalities
    self.inputs = {n: m for n, m in modalities.items() if m.config.use_input}
    self.core = CORES[type(config.core)](config.core, config.precision, name="core")
    block = MovingCrossBlock if self.core.uses_positions else CrossBlock
    self.decoder = [
      block(
        config.num_decoder_heads,
        qk_dim=config.query_dim,
        mlp_dim=config.decoder_mlp_factor * config.query_dim,
        name=f"decoder_{i}",
      )
      for i in range(config.num_decoder_layers)
    ]

  resets_at_cuts = True

  # --- encoding -----------------------------------------------------------------------------------

  def initial_extra(self, latents: PyTree, memory: Mapping[str, Memory]) -> dict[str, PyTree]:
    """Returns the features that modalities derive from the memory."""
    del latents
    return {n: m.derive(memory[n]) for n, m in self.modalities.items()}

  @hk.name_like("__call__")
  def encode(self, state: State, kept: Remembered) -> tuple[CoreInputs, dict[str, PyTree]]:
    """Returns the core's inputs at every tick, and the features derived from its memory."""
    del state
    ticks, batch = kept.is_first.shape
    flat = jax.tree.map(lambda x: x.reshape(ticks * batch, *x.shape[2:]), kept.memory)
    extra = {n: m.derive(flat[n]) for n, m in self.modalities.items()}
    valid = {n: v.reshape(-1) for n, v in kept.valid.items()}
    tokens, visible = self._tokens(flat, extra, valid)
    by_tick = lambda x: x.reshape(ticks, batch, *x.shape[1:])  # noqa: E731
    inputs = CoreInputs(by_tick(tokens), by_tick(visible), kept.is_first)
    if self.core.uses_positions:
      placed = (self._token_positions(ticks * batch), self._frames(flat, extra, valid))
      positions, frames = jax.tree.map(by_tick, placed)
      inputs = inputs._replace(positions=positions, frames=frames)
    return inputs, jax.tree.map(by_tick, extra)

  def _token_positions(self, rows: int) -> Float[Array, "B N 2"]:
    """Returns the centres of all tokens; NaN for those that have none in the image."""
    parts: list[np.ndarray] = [np.full((1, 2), np.nan)]
    for modality in self.inputs.values():
      grid = modality.query_grid()
      parts.append(grid if grid.shape[1] == 2 else np.full((len(grid), 2), np.nan))
    return repeat_rows(jnp.asarray(np.concatenate(parts), jnp.float32), rows)

  def _frames(
    self, memory: dict[str, Memory], extra: dict[str, PyTree], valid: dict[str, Array]
  ) -> FramePair | None:
    """Returns the last two images of the first input that has any."""
    for name, modality in self.inputs.items():
      pair = modality.frame_pair(memory[name], extra[name], valid[name])
      if pair is not None:
        return pair
    return None

  def attention(
    self, state: State, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, State]:
    """Returns the attention at each of T ticks, and the state after the last.

    Encoder attention is that of the core to the tokens. Decoder attention is that of the pixel
    decoder when it predicts the tick's frame from the previous state, at the smallest positive
    displacement.

    Raises:
      ValueError: The model does not both read and predict pixels.
    """
    if not {"pixels"} <= set(self.inputs) & set(self.outputs):
      raise ValueError(
        "stream_perceiver: attention maps need pixels as input and output; add the modality."
      )
    kept = self.remember(state.memory, observations)
    inputs, extra = self.encode(state, kept)
    positions = jnp.asarray(coordinates(grid), jnp.float32)
    ahead = float(min(d for d in (*self.config.displacements, 1) if d > 0))
    queries = Queries(positions, jnp.full(len(positions), ahead))

    def tick(before: State, now: tuple) -> tuple[State, Attended]:
      with capture_attention() as found:
        self._decode_some("pixels", before, queries)
      owns = mean_weights(found, r"/decoder_\d+/attention$")
      with capture_attention() as found:
        core_state, _ = self.core(now[0], before.latents)
      reads = mean_weights(found, _READS)[..., self._token_slice("pixels")]
      shape = self.modalities["pixels"].grid_shape()
      reads, owns = reads.reshape(*reads.shape[:2], *shape), owns.reshape(-1, *grid, owns.shape[-1])
      latents = self.core.latents(core_state)
      return State(core_state, *now[1:]), Attended(reads, owns, latents)

    last, attended = hk.scan(tick, state, (inputs, kept.memory, extra))
    return attended, last

  def _token_slice(self, name: str) -> slice:
    """Returns the slice of an input's tokens among all tokens."""
    names = list(self.inputs)
    sizes = [math.prod(m.grid_shape()) for m in self.inputs.values()]
    start = 1 + sum(sizes[: names.index(name)])
    return slice(start, start + sizes[names.index(name)])

  @hk.name_like("__call__")
  def _tokens(
    self, memory: dict[str, Memory], extra: dict[str, PyTree], valid: dict[str, Array]
  ) -> tuple[Float[Array, "B N C"], Bool[Array, "B N"] | Bool[Array, "B L N"]]:
    """Returns the concatenated tokens of all inputs and their mask (per latent, if bound).

    One learned token is always visible, so that a tick without observations is well defined.
    """
    c = self.config
    rows = next(iter(valid.values())).shape[0]
    tokens = [LearnedPositions(1, c.token_dim, name="null_token")(rows)]
    visible = [jnp.ones((rows, 1), bool)]
    for name, modality in self.inputs.items():
      own_tokens = modality.tokens(memory[name], extra[name], c.token_dim, c.precision)
      mark = LearnedPositions(1, c.token_dim, name=f"{name}_mark")(rows)
      tokens.append(own_tokens + mark.astype(own_tokens.dtype))
      visible.append(jnp.broadcast_to(valid[name][:, None], own_tokens.shape[:2]))
    tokens = jnp.concatenate([c.precision.cast(t) for t in tokens], axis=1)
    if c.bottleneck.norm_tokens:
      tokens = LayerNorm(use_offset=False, name="token_norm")(tokens)
    visible = jnp.concatenate(visible, axis=1)
    if c.bottleneck.latent_grid:
      shapes = [m.grid_shape() for m in self.inputs.values()]
      bound = jnp.asarray(grid_mask([(1,), *shapes], c.bottleneck.latent_grid))
      visible = visible[:, None] & bound[None]
    return tokens, visible

  # --- decoding -----------------------------------------------------------------------------------

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns the prediction for each query, `[B, Q, ...]`, in blocks of at most `decode_chunk`."""
    outputs = {}
    for name, query in queries.items():
      outputs |= self._decode_chunked(name, state, query)
    return outputs

  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q ..."]]:
    """Returns cells of a modality; see `RecurrentNetwork`."""
    outputs = self._decode_chunked(name, state, self.queries(name, cells, displacements))
    ahead = len(displacements)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], ahead, -1, *x.shape[2:]), outputs)

  def queries(
    self, name: str, cells: Int[Array, " Q"] | None, displacements: tuple[int, ...]
  ) -> Queries:
    """Returns the queries of cells of a modality, the whole grid if None, at each displacement."""
    grid = self.modalities[name].query_grid()
    if cells is not None:
      grid = jnp.asarray(grid)[cells]
    positions = jnp.tile(jnp.asarray(grid, jnp.float32), (len(displacements), 1))
    ticks = jnp.asarray(np.repeat(np.asarray(displacements, np.float32), len(grid)))
    return Queries(positions, ticks)

  def _decode_chunked(self, name: str, state: State, queries: Queries) -> dict[str, Array]:
    def decode(chunk: Queries) -> dict[str, Array]:
      return self._decode_some(name, state, jax.tree.map(lambda x: x[0], chunk))

    size = max(1, self.config.decode_chunk // _rows(state))
    return in_chunks(decode, jax.tree.map(lambda x: x[None], queries), size)

  @hk.name_like("__call__")
  def _decode_some(self, name: str, state: State, queries: Queries) -> dict[str, Array]:
    x = shard_axis(self.query_vectors(name, state, queries))
    latents = self.latents(state)
    for layer in range(len(self.decoder)):
      x = self.attend(layer, x, latents, queries)
    return self.apply_head(name, x, latents, state, queries)

  def attend(
    self, layer: int, x: Float[Array, "B Q E"], latents: Float[Array, "B L D"], queries: Queries
  ) -> Float[Array, "B Q E"]:
    """Returns query vectors after one block of the decoder.

    Queries attend to latents with positions by the distance from where these move.
    """
    points, cast = self.core.points(latents), self.config.precision.cast
    block = self.decoder[layer]
    if points is None:
      return block(x, cast(latents))
    return block(x, cast(latents), points, queries.positions, queries.displacement)

  @hk.name_like("__call__")
  def query_vectors(self, name: str, state: State, queries: Queries) -> Float[Array, "B Q E"]:
    """Returns query vectors, by default conditioned on the last observation at their position."""
    x = self._embed_queries(name, queries, _rows(state))
    if not self.config.bottleneck.condition_queries_on_input:
      return x
    return x + self._observed_at(name, queries.positions, state)

  @hk.name_like("__call__")
  def apply_head(
    self,
    name: str,
    decoded: Float[Array, "B Q E"],
    latents: Float[Array, "B L D"] | None,
    state: State,
    queries: Queries,
  ) -> dict[str, Array]:
    """Returns the output of a modality's head for decoded queries.

    Heads of images get the motion of latents with positions, and no other; `latents` may be None
    without such latents.
    """
    modality = self.modalities[name]
    x = LayerNorm(name=f"{name}_head_norm")(decoded)
    if name not in self.inputs:
      return modality.head_without_input(x)
    extra = state.extra[name]
    if not self.config.bottleneck.condition_queries_on_input:
      extra = jax.tree.map(jnp.zeros_like, extra)
    points = None if latents is None else self.core.points(latents)
    if latents is None or points is None or not isinstance(modality, Dense):
      return modality.head(x, state.memory[name], extra, queries)
    places = queries.positions, queries.displacement
    motion = Carrying(name=f"{name}_motion")(x, latents, points, *places)
    return modality.head(x, state.memory[name], extra, queries, motion)

  @hk.name_like("__call__")
  def _observed_at(
    self, name: str, positions: Float[Array, "Q d"], state: State
  ) -> Float[Array, "B Q E"]:
    """Returns features of the last observation at the queried positions of `name`.

    For a modality that is not an input, they are those of the inputs with the same axes.
    """
    c = self.config
    dims = len(self.modalities[name].grid_shape())
    sources = {n: m for n, m in self.inputs.items() if len(m.grid_shape()) == dims}
    if name in self.inputs:
      sources = {name: self.inputs[name]}
    features = jnp.zeros((_rows(state), positions.shape[0], c.query_dim))
    features = c.precision.cast(features)
    for n, modality in sources.items():
      where = (state.memory[n], state.extra[n], positions, c.query_dim, c.precision)
      features = features + modality.query_features(*where, for_modality="" if n == name else name)
    return features

  @hk.name_like("__call__")
  def _embed_queries(self, name: str, queries: Queries, rows: int) -> Float[Array, "B Q E"]:
    """Returns the embedding of position, displacement and modality of queries."""
    modality = self.modalities[name]
    shape = [max(n, 2) for n in modality.grid_shape()]
    where = fourier_linear(queries.positions, modality.config.num_bands, shape)
    octave = jnp.log2(1 + queries.displacement)[:, None] / 8  # 255 ticks ahead is 1
    when = jnp.concatenate([octave, fourier_octaves(octave, 4)], axis=-1)
    embedded = Linear(self.config.query_dim, name=f"{name}_query")(
      self.config.precision.cast(jnp.concatenate([where, when], axis=-1))
    )
    return repeat_rows(embedded, rows)


def _rows(state: State) -> int:
  return next(iter(state.memory.values())).count.shape[0]


def fitted(config: Config, specs: Mapping[str, ModalitySpec]) -> Config:
  """Returns `config` with the sizes of a stream, without the modalities that the stream lacks.

  Raises:
    ValueError: The stream has none of the modalities.
  """
  shared = {n: m.fitted(specs[n]) for n, m in config.modalities.items() if n in specs}
  if not shared:
    raise ValueError(
      f"stream_perceiver: the stream has {sorted(specs)} and the model reads "
      f"{sorted(config.modalities)}; nothing is shared."
    )
  return replace(config, modalities=shared)


def build(config: Config) -> Model:
  """Returns the model that `config` describes.

  Raises:
    ValueError: The config contradicts itself.
    TypeError: A modality's or the core's config has an unknown type.
  """
  config.validate()
  if type(config.core) not in CORES:
    raise TypeError(
      f"stream_perceiver: core config {type(config.core).__name__} is not one of "
      f"{[c.__name__ for c in CORES]}."
    )
  modalities = {n: modality_room.build(n, m) for n, m in config.modalities.items()}
  return as_model(
    lambda: StreamPerceiver(config, modalities, name="stream_perceiver"),
    modalities,
    tuple(config.displacements),
    config,
  )
