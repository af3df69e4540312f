"""Base classes of networks: remember, encode, recur, decode."""

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
from perceiver_stream.models.input_memory import Remembered, remember_ticks, select_displacement
from perceiver_stream.types import Observation


class State(NamedTuple):
  """Recurrent state of a network; fixed shapes, exportable.

  Attributes:
    latents: State of the core: `[B, L, D]` float32, or a pytree of which `Core.latents` makes that.
    memory: Memory of the inputs by modality.
    extra: Further state of the network; see its `initial_extra`.
  """

  latents: Any
  memory: dict[str, Memory]
  extra: PyTree = ()


class StreamNetwork(abc.ABC):
  """Base of all networks: memory of the inputs, and states by tick.

  Attributes:
    config: Config from which the network was built.
    modalities: Inputs and outputs by name.
    resets_at_cuts: True if a cut within a recording resets the memory of a modality.
  """

  config: Any
  modalities: dict[str, Modality]
  resets_at_cuts = False

  @abc.abstractmethod
  def initial_latents(self, batch_size: int) -> PyTree:
    """Returns the latents before the first tick, as `State` has them."""

  def initial_extra(self, latents: PyTree, memory: Mapping[str, Memory]) -> PyTree:
    """Returns the initial state besides latents and memory; empty by default."""
    del latents, memory
    return ()

  @abc.abstractmethod
  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks, from the state before and the remembered inputs."""

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

    A tick without an observation of a modality leaves its memory unchanged.
    """
    states = self.unroll(state, self.remember(state.memory, observations))
    return states, jax.tree.map(lambda x: x[-1], states)

  def latents(self, state: State) -> Float[Array, "*T B L D"]:
    """Returns the latent array."""
    return state.latents


class QueriedNetwork(StreamNetwork):
  """A `models.base.Network` that predicts cells of its outputs' grids with `decode_at`."""

  @abc.abstractmethod
  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q ..."]]:
    """Returns predictions of a modality at K displacements, and further outputs such as its flow.

    Args:
      name: Name of the modality.
      state: State to decode.
      cells: Flat row-major indices into its query grid; None: the whole grid.
      displacements: Ticks ahead of the newest observation.
    """

  @property
  def outputs(self) -> dict[str, Modality]:
    """The modalities that are predicted."""
    return {n: m for n, m in self.modalities.items() if m.config.use_output}

  @property
  def displacements(self) -> tuple[int, ...]:
    """The displacements of single queries; a query is decoded at the nearest of them."""
    return tuple(self.config.displacements)

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns whole predictions of the outputs, `[B, num_displacements, ...]`."""
    predictions = {}
    for name, modality in self.outputs.items():
      for key, cells in self.decode_at(name, state, None, displacements).items():
        predictions[key] = assembled(modality, cells)
    return predictions

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns the prediction for each query, `[B, Q, ...]`, at the nearest of `displacements`."""
    outputs, ahead = {}, self.displacements
    for name, query in queries.items():
      cells = cell_index(query.positions, self.modalities[name].grid_shape())
      for key, found in self.decode_at(name, state, cells, ahead).items():
        outputs[key] = select_displacement(found, ahead, query.displacement)
    return outputs


class RecurrentNetwork(QueriedNetwork):
  """A `models.base.Network` over a core and two hooks, `encode` and `decode_at`.

  Inputs are encoded before the scan, for all ticks at once; the scan runs the core only.

  Attributes:
    core: The recurrence over `CoreInputs`.
  """

  core: Core

  @abc.abstractmethod
  def encode(self, state: State, kept: Remembered) -> tuple[CoreInputs, PyTree]:
    """Returns the core's inputs at each of T ticks, and `extra` of the state after each."""

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
  """Returns the pixels modality of a model of frames, with cells of one patch."""
  tokenizer = "pixel" if patch == 1 else "patch"
  sizes = pixels.Config(height=config.height, width=config.width, patch=patch, tokenizer=tokenizer)
  return {"pixels": modality_room.build("pixels", sizes)}


def check_rgb(family: str, channels: int) -> None:
  """Raises ValueError unless frames have three channels, as in streams."""
  if channels != 3:
    raise ValueError(
      f"{family}: channels={channels}, but streams have RGB pixels; use 3, or call the network of "
      f"`models.{family}` directly."
    )
