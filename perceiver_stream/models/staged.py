"""A model's depth as a list of layers with named registers between them.

A layer reads registers that earlier layers (or the input) wrote, and writes its own. Run one after
the other on the same frame, layers are an ordinary network; `execution` cuts the list into stages
that all work at once, each on what the others left a tick ago.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import haiku as hk
import jax
from jaxtyping import Array, PyTree

Values = dict[str, PyTree]


def no_state(batch_size: int) -> PyTree:
  """Returns the state of a layer that carries nothing from tick to tick."""
  del batch_size
  return ()


class Layer(NamedTuple):
  """The smallest piece of depth; Haiku functions, to be called inside a transform.

  Attributes:
    name: Unique in its model.
    reads: Registers it reads.
    call: `(state, {register: value}) -> ({register written: value}, state)`; values and state are
      pytrees of arrays, rows first.
    initial_state: `(batch_size) -> state`, before the first tick.
  """

  name: str
  reads: tuple[str, ...]
  call: Callable[[PyTree, Values], tuple[Values, PyTree]]
  initial_state: Callable[[int], PyTree] = no_state


class Staged(NamedTuple):
  """A model as layers.

  Attributes:
    name: Of the model, for messages.
    layers: In order of depth.
    inputs: What comes with every tick, by register: shapes and dtypes with one row.
    outputs: Registers that are the model's answer.
    shortcuts: Registers that may be read fresher than what a layer reads beside them.
    observed: Registers made of the input alone, without parameters: no gradient flows into them.
  """

  name: str
  layers: tuple[Layer, ...]
  inputs: dict[str, jax.ShapeDtypeStruct]
  outputs: tuple[str, ...]
  shortcuts: frozenset[str] = frozenset()
  observed: frozenset[str] = frozenset()


def plain(name: str, reads: Sequence[str], function: Callable[..., Array]) -> Layer:
  """Returns a layer without state: it writes `function(*what it reads)` under its own name.

  Modules that the function makes get the layer's name in front.
  """

  def call(state: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    with hk.name_scope(name):
      return {name: function(*(inputs[register] for register in reads))}, state

  return Layer(name, tuple(reads), call)


def forward(layers: Sequence[Layer], inputs: Mapping[str, PyTree]) -> Values:
  """Returns all registers after layers without state ran on one frame; inside a transform."""
  registers = dict(inputs)
  for layer in layers:
    written, _ = layer.call((), {name: registers[name] for name in layer.reads})
    registers |= written
  return registers
