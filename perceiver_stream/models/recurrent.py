"""The skeleton of every network: remember, encode, recur, decode."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
from jaxtyping import Array, Float, Int, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import Core, CoreInputs
from perceiver_stream.modalities import Memory, Modality, Queries, pixels
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.input_memory import Remembered, nearest, remember_ticks
from perceiver_stream.types import Observation


class State(NamedTuple):
  """All that is carried from tick to tick; fixed shapes, exportable.

  Attributes:
    latents: State of the core: `[B, L, D]` float32, or a pytree of which `Core.latents` makes that.
    memory: Remembered input by modality.
    extra: Whatever else the network carries: see its `initial_extra`.
  """

  latents: Any
  memory: dict[str, Memory]
  extra: PyTree = ()


class StreamNetwork(abc.ABC):
  """What all networks share: memory of the inputs, and states by tick.

  Attributes:
    config: What the network was built from.
    modalities: What it reads and predicts, by name.
    resets_at_cuts: True if a cut within a recording resets what is remembered of a modality.
  """

  config: Any
  modalities: dict[str, Modality]
  resets_at_cuts = False

  @abc.abstractmethod
  def initial_latents(self, batch_size: int) -> PyTree:
    """Returns the latents before the first tick, as `State` has them."""

  def initial_extra(self, latents: PyTree, memory: Mapping[str, Memory]) -> PyTree:
    """Returns what is carried beside latents and memory; nothing by default."""
    del latents, memory
    return ()

  @abc.abstractmethod
  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks, from that before and the remembered inputs."""

  def initial_state(self, batch_size: int) -> State:
    """Returns the state before the first tick."""
    memory = {n: m.initial_memory(batch_size) for n, m in self.modalities.items()}
    latents = self.initial_latents(batch_size)
    return State(latents, memory, self.initial_extra(latents, memory))

  def remember(self, memory: Mapping[str, Memory], observations: Observation) -> Remembered:
    """Returns the memory of the inputs after each of T ticks, `[T, B, ...]`."""
    return remember_ticks(self.modalities, memory, observations, resets_at_cuts=self.resets_at_cuts)

  def observe(self, state: State, observations: Observation) -> tuple[State, State]:
    """Returns the state after each of T ticks, `[T, B, ...]`, and after the last.

    A tick without an observation of a modality holds what is remembered of it.
    """
    states = self.unroll(state, self.remember(state.memory, observations))
    return states, jax.tree.map(lambda x: x[-1], states)

  def latents(self, state: State) -> Float[Array, "*T B L D"]:
    """Returns the latent array."""
    return state.latents


class QueriedNetwork(StreamNetwork):
  """A `models.base.Network` that answers by cells of its outputs' grids, through `decode_at`."""

  @abc.abstractmethod
  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q ..."]]:
    """Returns predictions of a modality at K displacements, and what comes with them.

    Args:
      name: Of the modality.
      state: What is decoded.
      cells: Flat row-major indices into its query grid; None is the whole grid.
      displacements: Ticks ahead of the newest observation.
    """

  @property
  def outputs(self) -> dict[str, Modality]:
    """The modalities that are predicted."""
    return {n: m for n, m in self.modalities.items() if m.config.use_output}

  @property
  def displacements(self) -> tuple[int, ...]:
    """The displacements at which single queries are answered, each at the nearest."""
    return tuple(self.config.displacements)

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns whole predictions of the outputs, `[B, num_displacements, ...]`."""
    predictions = {}
    for name, modality in self.outputs.items():
      for key, cells in self.decode_at(name, state, None, displacements).items():
        predictions[key] = assembled(modality, cells)
    return predictions

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns the answer to each query, `[B, Q, ...]`, at the nearest of `displacements`."""
    answers, ahead = {}, self.displacements
    for name, asked in queries.items():
      cells = cell_index(asked.positions, self.modalities[name].grid_shape())
      for key, found in self.decode_at(name, state, cells, ahead).items():
        answers[key] = nearest(found, ahead, asked.displacement)
    return answers


class RecurrentNetwork(QueriedNetwork):
  """A `models.base.Network` over a core and two hooks, `encode` and `decode_at`.

  What does not depend on the recurrence is encoded before the scan, for all ticks at once; the scan
  holds the core alone.

  Attributes:
    core: The recurrence over `CoreInputs`.
  """

  core: Core

  @abc.abstractmethod
  def encode(self, state: State, kept: Remembered) -> tuple[CoreInputs, PyTree]:
    """Returns what the core reads at each of T ticks, and what is carried beside after each."""

  def initial_latents(self, batch_size: int) -> PyTree:
    """Returns the initial state of the core."""
    return self.core.initial_state(batch_size)

  def latents(self, state: State) -> Float[Array, "*T B L D"]:
    """Returns the latent array of the core's state."""
    return self.core.latents(state.latents)

  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks."""
    inputs, extra = self.encode(state, kept)
    core = hk.remat(self.core) if self.config.remat else self.core
    latents, _ = hk.dynamic_unroll(core, inputs, state.latents)
    return State(latents, kept.memory, extra)


def assembled(modality: Modality, cells: Float[Array, "B K Q ..."]) -> Float[Array, "B K ..."]:
  """Returns the whole predictions of all cells, at each of K displacements."""
  whole = modality.assemble(cells.reshape(-1, *cells.shape[2:]))
  return whole.reshape(*cells.shape[:2], *whole.shape[1:])


def pixel_modality(config: Any, patch: int = 1) -> dict[str, Modality]:
  """Returns the pixels that a model of frames reads and predicts, in cells of a patch."""
  tokenizer = "pixel" if patch == 1 else "patch"
  sizes = pixels.Config(height=config.height, width=config.width, patch=patch, tokenizer=tokenizer)
  return {"pixels": modality_room.build("pixels", sizes)}


def check_rgb(family: str, channels: int) -> None:
  """Raises ValueError unless frames have three channels, as those of streams have."""
  if channels != 3:
    raise ValueError(
      f"{family}: channels={channels}, but streams have RGB pixels; use 3, or call the network of "
      f"`models.{family}` itself."
    )
