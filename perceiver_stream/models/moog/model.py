"""MooG under the contract of every model, and its training objective."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import CoreInputs, Step
from perceiver_stream.modalities import Memory, Modality, Queries, pixels
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.base import Attended, Model, as_model
from perceiver_stream.models.input_memory import nearest, remember_ticks
from perceiver_stream.models.moog.config import Config
from perceiver_stream.models.moog.network import Moog, position_table
from perceiver_stream.models.moog.sampling import sampled, sampled_cells
from perceiver_stream.nn import captured, coordinates, mean_weights, repeat_rows
from perceiver_stream.types import ModalitySpec, Observation


class State(NamedTuple):
  """All that is carried from tick to tick.

  Attributes:
    latents: The latent array, `[B, L, D]`; what the read-outs read.
    start: Where a row goes back to when a recording starts, `[B, L, D]`; drawn once.
    memory: The newest frames, under "pixels".
  """

  latents: Float[Array, "*T B L D"]
  start: Float[Array, "*T B L D"]
  memory: dict[str, Memory]


class MoogNetwork:
  """`Moog` as a `models.base.Network`.

  A tick without a frame keeps the prediction; further displacements are predictions of
  predictions.
  """

  def __init__(self, config: Config, frames: Modality):
    self.config = config
    self.frames = frames
    self.moog = Moog(config)

  def initial_state(self, batch_size: int) -> State:
    """Returns the state before the first tick, drawn from the call's random key."""
    start = self.moog.initial_state(batch_size)
    return State(start, start, {"pixels": self.frames.initial_memory(batch_size)})

  def observe(self, state: State, observations: Observation) -> tuple[State, State]:
    """Returns the state after each of T ticks, and after the last."""
    steps, states = self.steps(state, observations)
    del steps
    return states, jax.tree.map(lambda x: x[-1], states)

  def steps(
    self, state: State, observations: Observation, detach: Array | None = None
  ) -> tuple[Step, State]:
    """Returns the inner states of every tick, and the states after it."""
    inputs, states = self._inputs(state, observations, detach)
    steps, _ = self.moog.unroll(inputs, state.latents)
    return steps, states._replace(latents=steps.corrected)

  def _inputs(
    self, state: State, observations: Observation, detach: Array | None = None
  ) -> tuple[CoreInputs, State]:
    """Returns what the recurrence reads at every tick, and the states but for the latents."""
    kept = remember_ticks({"pixels": self.frames}, state.memory, observations)
    frames, valid = kept.memory["pixels"].last, kept.valid["pixels"]
    ticks, batch = valid.shape
    start = jax.lax.broadcast_in_dim(state.start, (ticks, *state.start.shape), (1, 2, 3))
    inputs = CoreInputs(
      self.moog.encode(frames), is_first=kept.is_first, start=start, valid=valid, detach=detach
    )
    if self.config.use_loss_gradient:
      zeros = jnp.zeros((ticks, batch, 2), jnp.int32)
      positions, targets = sample(self.config, frames, zeros)
      inputs = inputs._replace(beside=(targets, positions))
    return inputs, State(start, start, kept.memory)

  def attention(
    self, state: State, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, State]:
    """Returns what latents look at at each of T ticks, and the state after the last.

    Latents read the frame's tokens in the corrector. Cells are owned in the decoder, where pixels
    of the tick's own frame are predicted from the predicted state; the pixel in a cell's middle
    speaks for it.

    Raises:
      ValueError: There is no decoder, or it would answer the grid's cells in more than one piece.
    """
    inputs, states = self._inputs(state, observations)
    positions = self._cell_positions(grid, state.latents.shape[0])
    shape = token_grid(self.config)

    def tick(latents: Array, now: CoreInputs) -> tuple[Array, Attended]:
      with captured() as found:
        step, after = self.moog.core.step(now, latents)
      reads = mean_weights(found, r"/corrector/.*cross_attention$")
      with captured() as found:
        self.moog.decode(step.predicted, positions)
      owns = mean_weights(found, r"/decoder/.*cross_attention$")
      reads = reads.reshape(*reads.shape[:2], *shape)
      return after, Attended(reads, owns.reshape(-1, *grid, owns.shape[-1]), after)

    last, attended = hk.scan(tick, state.latents, inputs)
    newest: State = jax.tree.map(lambda x: x[-1], states)
    return attended, newest._replace(latents=last)

  def _cell_positions(self, grid: tuple[int, int], rows: int) -> Float[Array, "B Q P"]:
    """Returns the features of the pixels in the middles of the cells."""
    c = self.config
    if c.decoder is None:
      raise ValueError("moog: attention needs the decoder, but config.decoder is None.")
    if rows * grid[0] * grid[1] > c.decoder.chunk:
      raise ValueError(
        f"moog: attention over {grid[0]}×{grid[1]} cells in {rows} rows is more than "
        f"config.decoder.chunk={c.decoder.chunk}; ask for fewer cells or rows."
      )
    centres = jnp.asarray(coordinates(grid), jnp.float32)
    return repeat_rows(positions_of(c)[cell_index(centres, (c.height, c.width))], rows)

  def latents(self, state: State) -> Float[Array, "*T B L D"]:
    """Returns the latent array."""
    return state.latents

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns whole frames, `[B, num_displacements, H, W, 3]`; displacement 0 is the present."""
    c = self.config
    if c.decoder is None:
      return {}
    frames = self._decode(state, positions_of(c), displacements)
    frames = jnp.moveaxis(frames, 0, 1)
    return {"pixels": frames.reshape(*frames.shape[:2], c.height, c.width, 3)}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns pixels, `[B, Q, 1, 1, 3]`, each at the displacement of ours nearest to its own."""
    c = self.config
    answers = {}
    for name, asked in queries.items():
      cells = cell_index(asked.positions, (c.height, c.width))
      displacements = tuple(sorted({0, *c.displacements}))
      pixels = self._decode(state, positions_of(c)[cells], displacements)
      answers[name] = nearest(pixels, displacements, asked.displacement)[:, :, None, None]
    return answers

  def picture(self, latents: Float[Array, "B L D"]) -> Float[Array, "B H W 3"]:
    """Returns the whole frame that a predicted state says."""
    c = self.config
    rows = repeat_rows(positions_of(c), latents.shape[0])
    return self.moog.decode(latents, rows).reshape(-1, c.height, c.width, 3)

  def _decode(
    self, state: State, positions: Array, displacements: tuple[int, ...]
  ) -> Float[Array, "K B Q 3"]:
    ahead = self.moog.futures(state.latents, displacements)
    rows = repeat_rows(positions, state.latents.shape[0])
    return jnp.stack([self.moog.decode(latents, rows) for latents in ahead])


def sample(
  config: Config, frames: Float[Array, "T B H W 3"], offsets: Array
) -> tuple[Float[Array, "T B Q P"], Float[Array, "T B Q 3"]]:
  """Returns position features and colours of the pixels that are decoded to train."""
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
  """Returns the loss of `make_loss`, and the inner and outer states of every tick."""
  config, leading = network.config, observations["pixels"].shape[:2]
  detach = jax.random.bernoulli(hk.next_rng_key(), detach_prob, leading)
  steps, states = network.steps(state, observations, detach)
  most = max(config.sample, 1)
  offsets = jax.random.randint(hk.next_rng_key(), (*leading, 2), 0, most)
  positions, targets = sample(config, states.memory["pixels"].last, offsets)
  merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  decoded = network.moog.decode(merge(steps.predicted), merge(positions))
  squared = jnp.mean(jnp.square(decoded - merge(targets)), axis=(1, 2))
  valid = observations.get("pixels_valid", jnp.ones(leading, bool))
  valid = merge(valid.reshape(*leading, 1)).astype(jnp.float32)[:, 0]
  mean = jnp.sum(squared * valid) / jnp.maximum(jnp.sum(valid), 1)
  return mean, steps, states


def make_loss(config: Config) -> Callable[..., tuple[Float[Array, ""], State]]:
  """Returns MooG's objective: mean squared error between each prediction and its frame.

  `loss(params, state, observations, rng, detach_prob=0.0) -> (loss, state after the last tick)`.
  One pixel in `config.sample`² is decoded, at random offsets per row and tick; with
  `detach_prob` the gradient into the past is cut, per row and tick. Ticks without a frame do not
  count.
  """
  frames = frames_of(config)

  def loss(
    state: State, observations: Observation, detach_prob: float | Array
  ) -> tuple[Float[Array, ""], State]:
    network = MoogNetwork(config, frames)
    mean, _, states = sampled_loss(network, state, observations, detach_prob)
    return mean, jax.tree.map(lambda x: x[-1], states)

  apply = hk.transform(loss).apply
  return lambda params, state, observations, rng, detach_prob=0.0: apply(
    params, rng, state, observations, detach_prob
  )


def fitted(config: Config, specs: Mapping[str, ModalitySpec]) -> Config:
  """Returns `config` for the frames of a stream.

  Raises:
    ValueError: The stream has no pixels.
  """
  if "pixels" not in specs:
    raise ValueError(f"moog: the stream has {sorted(specs)}, but the model reads pixels.")
  height, width = specs["pixels"].shape[:2]
  return dataclasses.replace(config, height=height, width=width)


def build(config: Config) -> Model:
  """Returns the model that `config` describes."""
  frames = frames_of(config)
  return as_model(
    lambda: MoogNetwork(config, frames), {"pixels": frames}, config.displacements, config
  )


def frames_of(config: Config) -> Modality:
  """Returns the pixels that the model reads and predicts; raises ValueError if it reads others."""
  if config.channels != 3:
    raise ValueError(
      f"moog: channels={config.channels}, but streams have RGB pixels; use 3, or call the network "
      f"`models.moog.Moog` itself."
    )
  sizes = pixels.Config(height=config.height, width=config.width, patch=1, tokenizer="pixel")
  return modality_room.build("pixels", sizes)
