"""Partitions: a model's layers as contiguous stages, and the source of each stage's inputs.

A stage reads the outputs that another stage wrote one tick ago. Registers written before the
previous stage are delayed by the stages in between, so all inputs of a stage belong to the same
frame. With `fresh=True`, registers marked as shortcuts skip these delays: they are read directly
from the stage that wrote them, and are of a newer frame than the other inputs.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from perceiver_stream.models.stages import Layer, Staged, Values

Params = Mapping[str, Mapping[str, Any]]  # by module and name, arrays or their shapes


class Stage(NamedTuple):
  """Successive layers as one pure function.

  Attributes:
    layers: Its layers.
    reads: Register → the stage that wrote it a tick ago; those of the first stage come with the tick
      and have none.
    writes: Registers it writes: its own that others read, and those it forwards.
    modules: Names of its parameters.
    observed: Registers into which no gradient flows.
  """

  layers: tuple[Layer, ...]
  reads: dict[str, int | None]
  writes: tuple[str, ...]
  modules: frozenset[str]
  observed: frozenset[str]

  def apply(self, params: Params, states: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    """Returns its outputs and the next states of its layers; all pure."""
    registers, after = dict(inputs), []
    for layer, state in zip(self.layers, states, strict=True):
      call = hk.transform(layer.call).apply
      written, state = call(params, None, state, {name: registers[name] for name in layer.reads})
      registers |= written
      after.append(state)
    return {name: registers[name] for name in self.writes}, tuple(after)

  def initial_states(self, params: Params, rows: int) -> PyTree:
    """Returns the states of its layers before the first tick."""
    make = [hk.transform(layer.initial_state).apply for layer in self.layers]
    return tuple(f(params, None, rows) for f in make)


class Partition(NamedTuple):
  """A staged model in stages.

  Attributes:
    staged: The model.
    stages: In order of depth.
    is_fresh: If True, shortcuts are read directly from the stage that wrote them.
    registers: Shapes and dtypes of all registers of the model, with one row.
  """

  staged: Staged
  stages: tuple[Stage, ...]
  is_fresh: bool
  registers: dict[str, PyTree]

  @property
  def delay(self) -> int:
    """Ticks from a frame to its answer from the last stage: D - 1."""
    return len(self.stages) - 1

  @property
  def longest_link(self) -> int:
    """Stages from the writer to the farthest reader of a register; 1 if there is no shortcut."""
    hops = [
      i - source
      for i, stage in enumerate(self.stages)
      for source in stage.reads.values()
      if source is not None
    ]
    return max(hops, default=1)

  def split(self, params: Params) -> tuple[Params, ...]:
    """Returns the parameters of every stage."""
    return tuple({name: params[name] for name in sorted(s.modules)} for s in self.stages)

  def init(self, rng: Array) -> Params:
    """Returns parameters of the whole model; they do not depend on the partition."""
    params = {}
    for i, layer in enumerate(self.staged.layers):
      inputs = {name: blank(self.registers[name]) for name in layer.reads}
      params |= _init(layer, jax.random.fold_in(rng, i), inputs)[0]
    return params


def partition(model: Any, stages: int | Sequence[int] = 0, *, fresh: bool = True) -> Partition:
  """Returns a model partitioned into stages.

  Args:
    model: A `Staged`.
    stages: Number of stages, with equal numbers of layers where possible; 0 makes each layer a stage, 1 is the
      ordinary network. Or the index of the first layer of every stage but the first.
    fresh: If True, shortcuts are read directly from their writer; otherwise all inputs of a stage
      are of the same frame.

  Raises:
    TypeError: The model is not staged.
    ValueError: There are more stages than layers, or an input of a layer is missing or has another
      shape than it needs.
  """
  staged = model
  if not isinstance(staged, Staged):
    raise TypeError(
      f"partition: a {type(model).__name__} is not staged: its depth is no list of layers. Give a "
      f"models.stages.Staged, e.g. zoo.staged(...) of a model that has one."
    )
  starts = (0, *_boundaries(staged, stages), len(staged.layers))
  parts = [staged.layers[a:b] for a, b in zip(starts, starts[1:], strict=False)]
  traced = _trace(staged)
  _check_own(staged, parts, traced.modules)
  reads, writes = _wires(staged, parts, traced.written, fresh)
  modules = [frozenset().union(*(traced.modules[layer.name] for layer in part)) for part in parts]
  observed = staged.observed | frozenset(staged.inputs)
  made = zip(parts, reads, (tuple(sorted(names)) for names in writes), modules, strict=True)
  return Partition(staged, tuple(Stage(*each, observed) for each in made), fresh, traced.registers)


def _boundaries(staged: Staged, stages: int | Sequence[int]) -> tuple[int, ...]:
  """Returns the index of the first layer of every stage but the first."""
  depth = len(staged.layers)
  if not isinstance(stages, int):
    found = tuple(stages)
    if list(found) != sorted(set(found)) or any(not 0 < b < depth for b in found):
      raise ValueError(
        f"partition: {staged.name} cannot be cut before the layers {found}; give rising indices from 1 to "
        f"{depth - 1}, of {[layer.name for layer in staged.layers]}."
      )
    return found
  if not 0 <= stages <= depth:
    raise ValueError(
      f"partition: {staged.name} has {depth} layers and cannot be cut into {stages} stages; ask for 1 to "
      f"{depth}, or 0 for one stage per layer."
    )
  number = stages or depth
  return tuple(depth * i // number for i in range(1, number))


def _init(layer: Layer, rng: Array, inputs: Values) -> tuple[Params, PyTree]:
  """Returns a layer's parameters, those of its first state among them, and that state."""
  rows = rows_of(inputs)
  start = hk.transform(layer.initial_state)
  params = start.init(rng, rows)
  state = start.apply(params, None, rows)
  return hk.data_structures.merge(params, hk.transform(layer.call).init(rng, state, inputs)), state


class _Traced(NamedTuple):
  """Shapes of registers, and each layer's parameters and outputs, found without computing."""

  registers: dict[str, PyTree]
  modules: dict[str, frozenset[str]]
  written: dict[str, frozenset[str]]


def _trace(staged: Staged) -> _Traced:
  registers: dict[str, PyTree] = dict(staged.inputs)
  modules, writes = {}, {}
  for layer in staged.layers:
    if missing := [name for name in layer.reads if name not in registers]:
      raise ValueError(
        f"partition: layer '{layer.name}' of {staged.name} reads {missing}, which nothing before it writes; "
        f"there are {sorted(registers)}."
      )
    inputs = {name: registers[name] for name in layer.reads}
    try:
      params, state = jax.eval_shape(functools.partial(_init, layer), jax.random.key(0), inputs)
      written, _ = jax.eval_shape(hk.transform(layer.call).apply, params, None, state, inputs)
    except (TypeError, ValueError) as error:
      shapes = {name: jax.tree.map(lambda x: x.shape, value) for name, value in inputs.items()}
      raise ValueError(
        f"partition: the registers {shapes} do not fit layer '{layer.name}' of {staged.name}, which reads "
        f"them together: {str(error).splitlines()[0]}"
      ) from error
    modules[layer.name], writes[layer.name] = frozenset(params), frozenset(written)
    registers |= written
  return _Traced(registers, modules, writes)


def _check_own(
  staged: Staged, parts: Sequence[Sequence[Layer]], modules: Mapping[str, frozenset[str]]
) -> None:
  """Raises ValueError if two stages would need the same parameters."""
  owner: dict[str, int] = {}
  for i, part in enumerate(parts):
    for layer in part:
      for name in modules[layer.name]:
        if owner.setdefault(name, i) != i:
          raise ValueError(
            f"partition: layer '{layer.name}' of {staged.name} shares the parameters '{name}' with stage "
            f"{owner[name]}; keep the layers that share them in one stage."
          )


def _wires(
  staged: Staged,
  parts: Sequence[Sequence[Layer]],
  written: Mapping[str, frozenset[str]],
  fresh: bool,
) -> tuple[list[dict[str, int | None]], list[set[str]]]:
  """Returns for every stage what it reads from whom, and what it writes."""
  writer = dict.fromkeys(staged.inputs, 0)
  needs: list[set[str]] = []
  for i, part in enumerate(parts):
    here: set[str] = set()
    for layer in part:
      here |= {r for r in layer.reads if writer.get(r, i) != i or (i == 0 and r in staged.inputs)}
      writer |= dict.fromkeys(written[layer.name], i)
    needs.append(here)
  last = len(parts) - 1
  needs[last] |= {name for name in staged.outputs if writer[name] != last}
  reads: list[dict[str, int | None]] = [{} for _ in parts]
  writes: list[set[str]] = [set() for _ in parts]
  writes[last] |= set(staged.outputs)
  for i in range(last, 0, -1):
    for name in sorted(needs[i]):
      source = writer[name] if fresh and name in staged.shortcuts else i - 1
      reads[i][name] = source
      writes[source].add(name)
      if source != writer[name] or (source == 0 and name in staged.inputs):
        needs[source].add(name)
  reads[0] = dict.fromkeys(sorted(needs[0]))
  return reads, writes


def rows_of(values: PyTree) -> int:
  """Returns the number of rows of arrays, which come first."""
  return jax.tree.leaves(values)[0].shape[0]


def blank(shapes: PyTree, rows: int = 1) -> PyTree:
  """Returns zeros of such shapes, with so many rows."""
  return jax.tree.map(lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), shapes)
