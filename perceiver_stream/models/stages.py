"""A model's depth as a list of layers with named registers between them.

A layer reads registers that earlier layers (or the input) wrote, and writes its own. Run one after
the other on the same frame, layers are an ordinary network; `execution` cuts the list into stages
that all work at once, each on what the others left a tick ago.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.utils import moved

FRAMES = "frames"  # the register that nets of pictures read

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


def stateless_layer(
  name: str,
  reads: Sequence[str],
  function: Callable[..., PyTree],
  write: str | tuple[str, ...] = "",
) -> Layer:
  """Returns a layer without state: it writes `function(*what it reads)`.

  Args:
    name: Of the layer.
    reads: Registers.
    function: Of their values.
    write: Register written, by default of the layer's name; or one per value that it returns.
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
  """Returns a `stateless_layer`; modules that its function makes get the layer's name in front."""

  def named(*values: PyTree) -> PyTree:
    with hk.name_scope(name):
      return function(*values)

  return stateless_layer(name, reads, named, write)


def layer_chain(
  name: str, number: int, first: str, beside: Sequence[str], function: Callable[..., PyTree]
) -> tuple[Layer, ...]:
  """Returns so many `stateless_layer`s named after their index, each of which reads the one before.

  Args:
    name: In front of the index.
    number: Of layers.
    first: Register that the first of them reads.
    beside: Registers that all of them read besides.
    function: `(index, what the one before wrote, *what stands beside) -> what it writes`.
  """
  before = (first, *(f"{name}_{i}" for i in range(number)))
  return tuple(
    stateless_layer(f"{name}_{i}", (before[i], *beside), functools.partial(function, i))
    for i in range(number)
  )


def check_halvings(name: str, height: int, width: int, times: int, fewer: str) -> None:
  """Raises ValueError if frames cannot be halved so often; `fewer` says of what there is too much."""
  factor = 2**times
  if height % factor or width % factor:
    raise ValueError(
      f"{name}: frames of {height}×{width} cannot be halved {times} times; use multiples of "
      f"{factor}, or fewer {fewer}."
    )


def image_net(
  name: str, layers: Sequence[Layer], height: int, width: int, input_dim: int
) -> Staged:
  """Returns a net that reads frames of one size; its last layer answers.

  What a layer reads first came to it through all layers before; the rest are shortcuts.
  """
  frames = jax.ShapeDtypeStruct((1, height, width, input_dim), jnp.float32)
  sides = frozenset(register for layer in layers for register in layer.reads[1:])
  return Staged(name, tuple(layers), {FRAMES: frames}, (layers[-1].name,), sides)


def apply_image_net(net: Staged, frames: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
  """Returns the answer of a net of `image_net` to every frame, all layers at once."""
  return forward(net.layers, {FRAMES: frames})[net.outputs[0]]


def forward(layers: Sequence[Layer], inputs: Mapping[str, PyTree]) -> Values:
  """Returns all registers after layers without state ran on one frame; inside a transform."""
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
