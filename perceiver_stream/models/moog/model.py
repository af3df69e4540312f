"""MooG as a model of the common contract, and its training objective."""

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_stream.core import CoreInputs, Step
from perceiver_stream.modalities import Memory, Modality
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.attention import Attended
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.moog.config import Config
from perceiver_stream.models.moog.network import Moog, position_table
from perceiver_stream.models.moog.sampling import sampled, sampled_cells
from perceiver_stream.models.recurrent import RecurrentNetwork, State, check_rgb, pixel_modality
from perceiver_stream.nn import capture_attention, coordinates, mean_weights, repeat_rows
from perceiver_stream.types import Observation


class MoogNetwork(RecurrentNetwork):
  """`Moog` as a `models.base.Network`.

  A tick without a frame keeps the prediction; larger displacements are iterated predictions.
  `extra` of a state is the initial latents, drawn once, to which a row is reset when a recording
  starts.
  """

  def __init__(self, config: Config, modalities: dict[str, Modality]):
    self.config = config
    self.modalities = modalities
    self.net = Moog(config)
    self.core = self.net.core

  @property
  def outputs(self) -> dict[str, Modality]:
    """The modalities that are predicted; none without a decoder."""
    return self.modalities if self.config.decoder else {}

  @property
  def displacements(self) -> tuple[int, ...]:
    """The displacements of single queries; 0 is the present."""
    return tuple(sorted({0, *self.config.displacements}))

  def initial_extra(
    self, latents: Float[Array, "B L D"], memory: Mapping[str, Memory]
  ) -> Float[Array, "B L D"]:
    """Returns the latents to which a row is reset."""
    del memory
    return latents

  def encode(
    self, state: State, kept: Remembered, detach: Array | None = None
  ) -> tuple[CoreInputs, Float[Array, "T B L D"]]:
    """Returns the core's inputs at every tick, and the latents to which rows are reset."""
    frames, valid = kept.memory["pixels"].last, kept.valid["pixels"]
    start = repeat_rows(state.extra, valid.shape[0])
    inputs = CoreInputs(
      self.net.encode(frames), is_first=kept.is_first, start=start, valid=valid, detach=detach
    )
    if self.config.use_loss_gradient:
      positions, targets = sample(self.config, frames, jnp.zeros((*valid.shape, 2), jnp.int32))
      inputs = inputs._replace(beside=(targets, positions))
    return inputs, start

  def steps(
    self, state: State, observations: Observation, detach: Array | None = None
  ) -> tuple[Step, State]:
    """Returns the inner states of every tick, and the states after it."""
    kept = self.remember(state.memory, observations)
    inputs, start = self.encode(state, kept, detach)
    steps, _ = self.net.unroll(inputs, state.latents)
    return steps, State(steps.corrected, kept.memory, start)

  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q 1 1 3"]]:
    """Returns the colours of pixels; see `RecurrentNetwork`."""
    positions = positions_of(self.config)
    rows = repeat_rows(positions if cells is None else positions[cells], state.latents.shape[0])
    ahead = self.net.futures(state.latents, displacements)
    answers = jnp.stack([self.net.decode(latents, rows) for latents in ahead], axis=1)
    return {name: answers[..., None, None, :]}

  def picture(self, latents: Float[Array, "B L D"]) -> Float[Array, "B H W 3"]:
    """Returns the whole frame decoded from a predicted state."""
    c = self.config
    rows = repeat_rows(positions_of(c), latents.shape[0])
    return self.net.decode(latents, rows).reshape(-1, c.height, c.width, 3)

  def attention(
    self, state: State, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, State]:
    """Returns the attention at each of T ticks, and the state after the last.

    Encoder attention is that of the latents to the frame's tokens in the corrector. Decoder
    attention is that of pixels of the tick's own frame, decoded from the predicted state; a cell is
    represented by the pixel at its centre.

    Raises:
      ValueError: There is no decoder, or the grid's cells exceed one chunk of it.
    """
    kept = self.remember(state.memory, observations)
    inputs, _ = self.encode(state, kept)
    positions = self._cell_positions(grid, state.latents.shape[0])
    shape = token_grid(self.config)

    def tick(latents: Array, now: CoreInputs) -> tuple[Array, Attended]:
      with capture_attention() as found:
        step, after = self.net.core.step(now, latents)
      reads = mean_weights(found, r"/corrector/.*cross_attention$")
      with capture_attention() as found:
        self.net.decode(step.predicted, positions)
      owns = mean_weights(found, r"/decoder/.*cross_attention$")
      reads = reads.reshape(*reads.shape[:2], *shape)
      return after, Attended(reads, owns.reshape(-1, *grid, owns.shape[-1]), after)

    last, attended = hk.scan(tick, state.latents, inputs)
    memory = jax.tree.map(lambda x: x[-1], kept.memory)
    return attended, State(last, memory, state.extra)

  def _cell_positions(self, grid: tuple[int, int], rows: int) -> Float[Array, "B Q P"]:
    """Returns the features of the pixels at the centres of the cells."""
    c = self.config
    if c.decoder is None:
      raise ValueError("moog: attention needs the decoder, but config.decoder is None.")
    if rows * grid[0] * grid[1] > c.decoder.chunk:
      raise ValueError(
        f"moog: attention over {grid[0]}×{grid[1]} cells in {rows} rows is more than "
        f"config.decoder.chunk={c.decoder.chunk}; use fewer cells or rows."
      )
    centres = jnp.asarray(coordinates(grid), jnp.float32)
    return repeat_rows(positions_of(c)[cell_index(centres, (c.height, c.width))], rows)


def sample(
  config: Config, frames: Float[Array, "T B H W 3"], offsets: Array
) -> tuple[Float[Array, "T B Q P"], Float[Array, "T B Q 3"]]:
  """Returns position features and colours of the pixels that are decoded in training."""
  shape = (config.height, config.width)
  ticks, batch = frames.shape[:2]
  cells = sampled_cells(shape, config.sample, offsets.reshape(-1, 2))
  table = positions_of(config)
  colours = sampled(frames.reshape(-1, *frames.shape[2:]), cells)
  split = lambda x: x.reshape(ticks, batch, *x.shape[1:])  # noqa: E731
  return split(table[cells]), split(colours)


def token_grid(config: Config) -> tuple[int, int]:
  """Returns rows and columns of the frame encoder's tokens."""
  rows, columns = config.height, config.width
  for stride in config.encoder.strides:
    down, right = (stride, stride) if isinstance(stride, int) else stride
    rows, columns = -(-rows // down), -(-columns // right)
  return rows, columns


def positions_of(config: Config) -> Float[Array, "N P"]:
  """Returns the features of all pixels."""
  octaves = config.decoder.num_octaves if config.decoder else 0
  return position_table((config.height, config.width), octaves, config.float32_positions)


def sampled_loss(
  network: MoogNetwork, state: State, observations: Observation, detach_prob: float | Array
) -> tuple[Float[Array, ""], Step, State]:
  """Returns MooG's training loss, and the inner and outer states of every tick.

  That is the mean squared error of the state predicted for each tick. One pixel in `config.sample`²
  is decoded, at random offsets per row and tick; ticks without a frame are excluded. With
  probability `detach_prob`, per row and tick, the gradient into the past is stopped.
  """
  config, leading = network.config, observations["pixels"].shape[:2]
  detach = jax.random.bernoulli(hk.next_rng_key(), detach_prob, leading)
  steps, states = network.steps(state, observations, detach)
  most = max(config.sample, 1)
  offsets = jax.random.randint(hk.next_rng_key(), (*leading, 2), 0, most)
  positions, targets = sample(config, states.memory["pixels"].last, offsets)
  merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  decoded = network.net.decode(merge(steps.predicted), merge(positions))
  squared = jnp.mean(jnp.square(decoded - merge(targets)), axis=(1, 2))
  valid = observations.get("pixels_valid", jnp.ones(leading, bool))
  valid = merge(valid.reshape(*leading, 1)).astype(jnp.float32)[:, 0]
  mean = jnp.sum(squared * valid) / jnp.maximum(jnp.sum(valid), 1)
  return mean, steps, states


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  modalities = modalities_of(config)
  return as_model(lambda: MoogNetwork(config, modalities), modalities, config.displacements, config)


def modalities_of(config: Config) -> dict[str, Modality]:
  """Returns the pixels modality of the model; raises ValueError for frames that are not RGB."""
  check_rgb("moog", config.channels)
  return pixel_modality(config)
