"""RVM under the contract of every model, and its training objective."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import CoreInputs
from perceiver_stream.modalities import Memory, Modality, Queries, pixels
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.base import Attended, Model, as_model
from perceiver_stream.models.input_memory import nearest, remember_ticks
from perceiver_stream.models.rvm.config import Config
from perceiver_stream.models.rvm.network import Rvm, draw_orders, mask_of
from perceiver_stream.nn import captured, coordinates, mean_weights, patchify
from perceiver_stream.types import ModalitySpec, Observation


class State(NamedTuple):
  """All that is carried from tick to tick.

  Attributes:
    latents: The state of the core, `[B, N, D]`: CLS, then one per patch.
    memory: The newest frames, under "pixels".
  """

  latents: Float[Array, "*T B N D"]
  memory: dict[str, Memory]


class RvmNetwork:
  """`Rvm` as a `models.base.Network`.

  Predictions are painted with no patch of the target visible, from the newest state alone. The
  released model was trained with 5 % of the patches visible and all source frames' states.
  """

  def __init__(self, config: Config, frames: Modality):
    self.config = config
    self.frames = frames
    self.rvm = Rvm(config)

  def initial_state(self, batch_size: int) -> State:
    """Returns the state before the first tick."""
    memory = {"pixels": self.frames.initial_memory(batch_size)}
    return State(self.rvm.core.initial_state(batch_size), memory)

  def observe(self, state: State, observations: Observation) -> tuple[State, State]:
    """Returns the state after each of T ticks, and after the last."""
    inputs, memory = self._inputs(state, observations)
    latents, _ = self.rvm.unroll(inputs, state.latents)
    states = State(latents, memory)
    return states, jax.tree.map(lambda x: x[-1], states)

  def _inputs(
    self, state: State, observations: Observation
  ) -> tuple[CoreInputs, dict[str, Memory]]:
    """Returns what the recurrence reads at every tick, and the memory after it."""
    kept = remember_ticks({"pixels": self.frames}, state.memory, observations)
    frames, valid = kept.memory["pixels"].last, kept.valid["pixels"]
    inputs = CoreInputs(self.rvm.encode(frames), is_first=kept.is_first, valid=valid)
    return inputs, kept.memory

  def attention(
    self, state: State, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, State]:
    """Returns what latents look at at each of T ticks, and the state after the last.

    A latent is a place: a cell is owned by the patch that holds its middle. What a latent reads is
    the core's cross-attention from the frame's patches to those of the state before; the first
    latent is CLS, which owns nothing, and what is read of it is left out.
    """
    inputs, memory = self._inputs(state, observations)
    shape, batch = self.config.grid(), state.latents.shape[0]
    place = cell_index(jnp.asarray(coordinates(grid), jnp.float32), shape)
    owner = jax.nn.one_hot(place + 1, state.latents.shape[1]).reshape(*grid, -1)
    owns = jax.lax.broadcast_in_dim(owner, (batch, *owner.shape), (1, 2, 3))

    def tick(latents: Array, now: CoreInputs) -> tuple[Array, Attended]:
      with captured() as found:
        _, after = self.rvm.core(now, latents)
      reads = mean_weights(found, r"/core/.*cross_attention$")[..., 1:]
      return after, Attended(reads.reshape(*reads.shape[:2], *shape), owns, after)

    last, attended = hk.scan(tick, state.latents, inputs)
    return attended, State(last, jax.tree.map(lambda x: x[-1], memory))

  def latents(self, state: State) -> Float[Array, "*T B N D"]:
    """Returns the state of the core."""
    return state.latents

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns whole frames, `[B, num_displacements, H, W, 3]`."""
    batch = state.latents.shape[0]
    rows, columns = self.config.grid()
    order = jnp.broadcast_to(jnp.arange(rows * columns)[None], (batch, rows * columns))
    blank = jnp.zeros((batch, self.config.height, self.config.width, 3), jnp.float32)

    def paint(displacement: int) -> Array:
      delta = jnp.full(batch, displacement, jnp.int32)
      return self.rvm.paint(state.latents[None], blank, order, delta, num_visible=0)

    return {"pixels": jnp.stack([paint(d) for d in displacements], axis=1)}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns patches, `[B, Q, patch, patch, 3]`, each at our displacement nearest to its own."""
    c = self.config
    painted = self.predict(state, c.displacements)["pixels"]
    cells = patchify(jnp.moveaxis(painted, 1, 0), c.patch)  # [K, B, h, w, E]
    cells = cells.reshape(*cells.shape[:2], -1, c.patch, c.patch, c.channels)
    answers = {}
    for name, asked in queries.items():
      picked = cells[:, :, cell_index(asked.positions, c.grid())]
      answers[name] = nearest(picked, c.displacements, asked.displacement)
    return answers


def make_loss(config: Config) -> Callable[..., tuple[Float[Array, ""], State]]:
  """Returns RVM's objective: paint a future frame of which a few patches are visible.

  `loss(params, state, observations, rng, num_sources=…) -> (loss, state after the sources)`. The
  first `num_sources` ticks are sources; the target is one of the later ticks, drawn per call, the
  visible patches per row. The loss is the mean squared error of the hidden patches; the state is
  that after the last source.
  """
  frames = frames_of(config)

  def loss(
    state: State, observations: Observation, num_sources: int
  ) -> tuple[Float[Array, ""], State]:
    network = RvmNetwork(config, frames)
    ticks, batch = observations["pixels"].shape[:2]
    sources = jax.tree.map(lambda x: x[:num_sources], dict(observations))
    states, last = network.observe(state, sources)
    delta = jax.random.randint(hk.next_rng_key(), (), 1, ticks - num_sources + 1)
    at = num_sources - 1 + delta
    target = frames.canonical(jnp.take(observations["pixels"], at, axis=0))
    rows, columns = config.grid()
    order = draw_orders(hk.next_rng_key(), batch, rows * columns)
    deltas = jnp.broadcast_to(delta, (batch,))
    painted = network.rvm.paint(states.latents, target, order, deltas)
    hidden = mask_of(order, config.num_visible())
    error = jnp.mean(jnp.square(patchify(painted - target, config.patch)), axis=-1)
    error = error.reshape(batch, -1)
    same = _same_recording(observations, at, num_sources)
    weight = hidden * jax.lax.broadcast_in_dim(same, hidden.shape, (0,))
    return jnp.sum(error * weight) / jnp.maximum(jnp.sum(weight), 1), last

  apply = hk.transform(loss).apply
  return lambda params, state, observations, rng, num_sources: apply(
    params, rng, state, observations, num_sources
  )


def _same_recording(observations: Observation, at: Array, num_sources: int) -> Array:
  """Returns 1 in the rows whose target is valid and of the same recording as the last source."""
  leading = observations["pixels"].shape[:2]
  later = jnp.arange(leading[0])[:, None]
  between = jnp.broadcast_to((later >= num_sources) & (later <= at), leading)
  first = observations.get("is_first", jnp.zeros(leading, bool))
  valid = jnp.take(observations.get("pixels_valid", jnp.ones(leading, bool)), at, axis=0)
  return (valid & ~jnp.any(first & between, axis=0)).astype(jnp.float32)


def fitted(config: Config, specs: Mapping[str, ModalitySpec]) -> Config:
  """Returns `config` for the frames of a stream.

  Raises:
    ValueError: The stream has no pixels.
  """
  if "pixels" not in specs:
    raise ValueError(f"rvm: the stream has {sorted(specs)}, but the model reads pixels.")
  height, width = specs["pixels"].shape[:2]
  return dataclasses.replace(config, height=height, width=width)


def build(config: Config) -> Model:
  """Returns the model that `config` describes.

  Raises:
    ValueError: The frame is not a whole number of patches.
  """
  frames = frames_of(config)
  return as_model(
    lambda: RvmNetwork(config, frames), {"pixels": frames}, config.displacements, config
  )


def frames_of(config: Config) -> Modality:
  """Returns the pixels that the model reads and predicts; raises ValueError if it reads others."""
  config.grid()
  if config.channels != 3:
    raise ValueError(
      f"rvm: channels={config.channels}, but streams have RGB pixels; use 3, or call the network "
      f"`models.rvm.Rvm` itself."
    )
  sizes = pixels.Config(height=config.height, width=config.width, patch=config.patch)
  return modality_room.build("pixels", sizes)
