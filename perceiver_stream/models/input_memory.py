"""Memory of the inputs after every tick, and selection of cells and displacements."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.modalities import Memory, Modality
from perceiver_stream.models.stages import Layer, Values
from perceiver_stream.types import IS_FIRST, Observation, valid_key


class Remembered(NamedTuple):
  """Memories after every tick, `[T, B, ...]`, and the flags of the ticks, `[T, B]`."""

  memory: dict[str, Memory]
  valid: dict[str, Bool[Array, "T B"]]
  is_first: Bool[Array, "T B"]


def remember_ticks(
  modalities: Mapping[str, Modality],
  memory: Mapping[str, Memory],
  observations: Observation,
  *,
  resets_at_cuts: bool = False,
) -> Remembered:
  """Returns the memories after every tick; that of a missing modality is unchanged.

  An observation that is not finite after `Modality.preprocess` counts as invalid.

  Args:
    modalities: Modalities to remember, by name.
    memory: Memories before the first tick.
    observations: Arrays `[T, B, ...]`; see `types.Observation`.
    resets_at_cuts: If True, memory is also reset at a cut within a recording, so that motion,
      change and the slow average never span two shots. Costs a motion search per tick.
  """
  present = {n: observations[n] for n in modalities if n in observations}
  leading = next(iter(present.values())).shape[:2]
  flag = lambda key, default: jnp.asarray(  # noqa: E731
    observations.get(key, jnp.full(leading, default)), bool
  )
  is_first = flag(IS_FIRST, False)

  def usable(name: str) -> Bool[Array, "T B"] | bool:
    if name not in present or not jnp.issubdtype(present[name].dtype, jnp.floating):
      return name in present
    value = modalities[name].preprocess(present[name])
    return jnp.all(jnp.isfinite(value), axis=tuple(range(2, value.ndim)))

  valid = {n: flag(valid_key(n), True) & usable(n) for n in modalities}

  def tick(memory: dict, now: tuple) -> tuple[dict, dict]:
    values, valid, is_first = now
    after = {}
    for name, modality in modalities.items():
      value = modality.preprocess(values[name]) if name in values else memory[name].last
      resets = is_first
      if resets_at_cuts:
        resets = resets | (valid[name] & modality.is_cut(memory[name], value))
      after[name] = modality.remember(memory[name], value, valid[name], resets)
    return after, after

  _, memories = jax.lax.scan(tick, dict(memory), (present, valid, is_first))
  return Remembered(memories, valid, is_first)


def remember_tick(
  modalities: Mapping[str, Modality], memory: Mapping[str, Memory], observation: Observation
) -> Remembered:
  """Returns the result of `remember_ticks` for one tick: arrays `[B, ...]`."""
  once = jax.tree.map(lambda x: x[None], dict(observation))
  return jax.tree.map(lambda x: x[0], remember_ticks(modalities, memory, once))


def tick_shapes(modalities: Mapping[str, Modality]) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of a tick's inputs with one row: observations, flags and `is_first`."""
  shapes = {
    n: jax.ShapeDtypeStruct((1, *m.spec.shape), m.spec.dtype) for n, m in modalities.items()
  }
  flag = jax.ShapeDtypeStruct((1,), jnp.bool_)
  return shapes | {valid_key(n): flag for n in modalities} | {IS_FIRST: flag}


def remembering(
  modalities: Mapping[str, Modality], call: Callable[[PyTree, Values], tuple[Values, PyTree]]
) -> Layer:
  """Returns the first layer of a model, whose state is the memory of its inputs."""

  def start(rows: int) -> dict[str, Memory]:
    return {n: m.initial_memory(rows) for n, m in modalities.items()}

  return Layer("input", tuple(tick_shapes(modalities)), call, start)


def select_displacement(
  outputs: Float[Array, "B K Q ..."], displacements: tuple[int, ...], requested: Float[Array, " Q"]
) -> Float[Array, "B Q ..."]:
  """Returns the output of every query at the displacement nearest to the requested one."""
  table = jnp.asarray(displacements, jnp.float32)
  chosen = jnp.argmin(jnp.abs(requested[None] - table[:, None]), axis=0)  # [Q]
  return jax.vmap(lambda a, k: a[:, k], in_axes=(2, 0), out_axes=1)(outputs, chosen)


def grid_mask(shapes: Sequence[tuple[int, ...]], grid: tuple[int, int]) -> Bool[np.ndarray, "L N"]:
  """Returns True for tokens in each cell of a coarse grid, or without a position in the image.

  Args:
    shapes: Shapes of the concatenated grids of tokens; grids with two axes are image grids.
    grid: Rows and columns of cells.
  """
  own, cells = [], np.arange(math.prod(grid))[:, None]
  for shape in shapes:
    inside = np.ones((len(cells), math.prod(shape)), bool)
    if len(shape) == 2:
      y, x = np.indices(shape).reshape(2, -1)
      inside = y * grid[0] // shape[0] * grid[1] + x * grid[1] // shape[1] == cells
    own.append(inside)
  return np.concatenate(own, axis=1)
