"""A model's depth as a list of layers with named registers between them.

A layer reads registers written by earlier layers or the input, and writes its own. Their names are
names of arrays in checkpoints of pipelined runs. Run one after another on the same frame, layers
form an ordinary network. `execution` partitions the list into stages that run in parallel, each on
the outputs that the others wrote one tick ago.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.utils import moved

FRAMES = "frames"  # the register that image networks read

Values = dict[str, PyTree]


def no_state(batch_size: int) -> PyTree:
  """Returns the empty state of a stateless layer."""
  del batch_size
  return ()


class Layer(NamedTuple):
  """The smallest unit of depth: Haiku functions, called inside a transform.

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
    name: Name of the model, for messages.
    layers: Layers in order of depth.
    inputs: Inputs of every tick by register: shapes and dtypes with one row.
    outputs: Registers of the model's outputs.
    shortcuts: Registers that may skip the pipeline's delays: a reader gets the value that was
      written one tick ago, computed from a newer frame than its other inputs.
    observed: Registers that depend on the input only, without parameters: no gradient flows into
      them.
  """

  name: str
  layers: tuple[Layer, ...]
  inputs: dict[str, jax.ShapeDtypeStruct]
  outputs: tuple[str, ...]
  shortcuts: frozenset[str] = frozenset()
  observed: frozenset[str] = frozenset()


def stateless_layer(
  name: str,
  reads: Sequence[str],
  function: Callable[..., PyTree],
  write: str | tuple[str, ...] = "",
) -> Layer:
  """Returns a layer without state that writes `function(*values of the registers it reads)`.

  Args:
    name: Name of the layer.
    reads: Registers it reads.
    function: Function of their values.
    write: Register written, or one per returned value; default: the name of the layer.
  """

  def call(state: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    found = function(*(inputs[register] for register in reads))
    if isinstance(write, tuple):
      return dict(zip(write, found, strict=True)), state
    return {write or name: found}, state

  return Layer(name, tuple(reads), call)


def scoped_layer(
  name: str,
  reads: Sequence[str],
  function: Callable[..., PyTree],
  write: str | tuple[str, ...] = "",
) -> Layer:
  """Returns a `stateless_layer` whose name is the prefix of modules created by its function."""

  def named(*values: PyTree) -> PyTree:
    with hk.name_scope(name):
      return function(*values)

  return stateless_layer(name, reads, named, write)


def layer_chain(
  name: str, number: int, first: str, beside: Sequence[str], function: Callable[..., PyTree]
) -> tuple[Layer, ...]:
  """Returns `number` indexed `stateless_layer`s, each of which reads the previous one.

  Args:
    name: Prefix of the index in names.
    number: Number of layers.
    first: Register that the first layer reads.
    beside: Further registers that all layers read.
    function: `(index, output of the previous layer, *further registers) -> output`.
  """
  before = (first, *(f"{name}_{i}" for i in range(number)))
  return tuple(
    stateless_layer(f"{name}_{i}", (before[i], *beside), functools.partial(function, i))
    for i in range(number)
  )


def check_halvings(name: str, height: int, width: int, times: int, fewer: str) -> None:
  """Raises ValueError if frames cannot be halved `times` times; `fewer` is for the message."""
  factor = 2**times
  if height % factor or width % factor:
    raise ValueError(
      f"{name}: frames of {height}×{width} cannot be halved {times} times; use multiples of "
      f"{factor}, or fewer {fewer}."
    )


def image_net(
  name: str, layers: Sequence[Layer], height: int, width: int, input_dim: int
) -> Staged:
  """Returns a network that reads frames of one size; the output is that of its last layer.

  The first register that a layer reads has passed all previous layers; the others are shortcuts.
  """
  frames = jax.ShapeDtypeStruct((1, height, width, input_dim), jnp.float32)
  sides = frozenset(register for layer in layers for register in layer.reads[1:])
  return Staged(name, tuple(layers), {FRAMES: frames}, (layers[-1].name,), sides)


def apply_image_net(net: Staged, frames: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
  """Returns the output of an `image_net` for every frame, all layers at once."""
  return forward(net.layers, {FRAMES: frames})[net.outputs[0]]


def forward(layers: Sequence[Layer], inputs: Mapping[str, PyTree]) -> Values:
  """Returns all registers after running layers without state on one frame, inside a transform."""
  registers = dict(inputs)
  for layer in layers:
    written, _ = layer.call((), {name: registers[name] for name in layer.reads})
    registers |= written
  return registers


__getattr__ = moved.renamed_names(
  __name__,
  {
    "chained": "models.stages.layer_chain",
    "of_pictures": "models.stages.image_net",
    "on_pictures": "models.stages.apply_image_net",
    "piece": "models.stages.stateless_layer",
    "plain": "models.stages.scoped_layer",
  },
)
