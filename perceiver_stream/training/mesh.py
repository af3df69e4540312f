"""Sharding of rows, parameters and latents over the named axes of a device mesh."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

DATA, FSDP, LATENTS = "data", "fsdp", "latents"
MIN_SHARDED = 1024  # numbers; smaller arrays are replicated on all devices, which is faster


@dataclass(kw_only=True)
class MeshConfig:
  """Number of devices of each axis; one of them may be 0, all remaining devices.

  Attributes:
    data: Rows (streams) are sharded over these; if it is 0, over as many devices as divide
      the rows, and the others are idle.
    fsdp: Each parameter and its optimiser state is sharded over these and gathered for use. Rows
      are sharded over them too if they are a multiple of `data` × `fsdp`.
    latents: Latents, and the queries that are decoded, are sharded over these.
  """

  data: int = 0
  fsdp: int = 1
  latents: int = 1

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    sizes = {DATA: self.data, FSDP: self.fsdp, LATENTS: self.latents}
    for name, size in sizes.items():
      if size < 0:
        raise ValueError(f"mesh.{name}={size}; use 1 or more devices, or 0 for all that are left.")
    zeros = [name for name, size in sizes.items() if not size]
    if len(zeros) > 1:
      raise ValueError(
        f"mesh: {' and '.join(zeros)} are both 0, all devices that are left; only one axis can "
        f"have them. Give the others a size, e.g. --config.mesh.{zeros[0]}=1."
      )


def make_mesh(config: MeshConfig, num_rows: int, devices: Sequence[Any] = ()) -> Mesh:
  """Returns the mesh that a config describes, over some or all devices.

  Args:
    config: Sizes of the axes.
    num_rows: Streams in parallel.
    devices: The devices to use, process by process; none means all.

  Raises:
    ValueError: As `axis_sizes` raises it.
  """
  devices = list(devices) or jax.devices()
  sizes = axis_sizes(config, num_rows, len(devices), jax.process_count())
  array = np.asarray(devices[: math.prod(sizes.values())]).reshape(*sizes.values())
  return Mesh(array, tuple(sizes), axis_types=(AxisType.Auto,) * 3)


def axis_sizes(
  config: MeshConfig, num_rows: int, num_devices: int, num_processes: int
) -> dict[str, int]:
  """Returns the sizes of the axes for a number of devices and processes.

  Raises:
    ValueError: The sizes do not fit the devices or the rows; the message has valid ones.
  """
  config.validate()
  sizes = {DATA: config.data, FSDP: config.fsdp, LATENTS: config.latents}
  given = math.prod(size for size in sizes.values() if size)
  if given > num_devices:
    raise ValueError(
      f"mesh {_describe(sizes)} needs {given} devices, there are {num_devices}; make an axis smaller."
    )
  left = num_devices // given
  for name in (name for name, size in sizes.items() if not size):
    sizes[name] = left
  is_alone = num_processes == 1
  if not config.data and is_alone:
    sizes[DATA] = max(n for n in range(1, left + 1) if num_rows % n == 0)
  if num_rows % sizes[DATA]:
    raise ValueError(
      f"mesh {_describe(sizes)}: num_rows={num_rows} cannot be divided over data={sizes[DATA]}; make "
      f"num_rows a multiple of it, or set mesh.data to one of {_divisors(num_rows)}."
    )
  used = math.prod(sizes.values())
  if used != num_devices and not is_alone:
    raise ValueError(
      f"mesh {_describe(sizes)} uses {used} of {num_devices} devices, and some process would have "
      f"none; let the sizes multiply to {num_devices}."
    )
  return sizes


def row_axes(mesh: Mesh, num_rows: int) -> tuple[str, ...]:
  """Returns the mesh axes over which rows are sharded."""
  both = num_rows % (mesh.shape[DATA] * mesh.shape[FSDP]) == 0
  return (DATA, FSDP) if both else (DATA,)


def copied(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of replicated arrays."""
  return NamedSharding(mesh, PartitionSpec())


def rows_sharding(mesh: Mesh, num_rows: int, axis: int = 0) -> NamedSharding:
  """Returns the sharding of arrays with the rows at `axis`."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, row_axes(mesh, num_rows)))


def own_rows(mesh: Mesh, num_rows: int) -> tuple[int, ...]:
  """Returns the rows on devices of this process, which it must read, in order."""
  places = rows_sharding(mesh, num_rows).addressable_devices_indices_map((num_rows,))
  slices = {index[0].indices(num_rows) for index in places.values() if index}
  return tuple(sorted({row for s in slices for row in range(*s)}))


def divided(mesh: Mesh, tree: PyTree) -> PyTree:
  """Returns the sharding of each array of parameters or optimiser, along the longest divisible axis.

  It depends only on the shape, so a parameter and its moments are sharded in the same way.
  """
  size = mesh.shape[FSDP]

  def one(x: Any) -> NamedSharding:
    longest = max((n for n in x.shape if n % size == 0), default=0)
    if size == 1 or not longest or math.prod(x.shape) < MIN_SHARDED:
      return copied(mesh)
    axis = list(x.shape).index(longest)
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, FSDP))

  return jax.tree.map(one, tree)


def check_divided(mesh: Mesh, params: PyTree) -> None:
  """Checks the shardings of `divided`; raises ValueError if no array is sharded."""
  size = mesh.shape[FSDP]
  if size > 1 and all(sharding.is_fully_replicated for sharding in jax.tree.leaves(params)):
    raise ValueError(
      f"mesh.fsdp={size}: no parameter of {MIN_SHARDED} numbers or more has an axis that is a "
      f"multiple of {size}; use a divisor of the model's widths, or 1."
    )


def carried(mesh: Mesh, state: PyTree, num_rows: int) -> PyTree:
  """Returns the sharding of each array of a model's state, rows first.

  Arrays named `latents`, `[B, L, D]`, are sharded over the axis `latents` too.

  Raises:
    ValueError: `latents` has several devices and L is not a multiple.
  """
  size = mesh.shape[LATENTS]
  rows = row_axes(mesh, num_rows)
  lengths = []

  def one(path: tuple[Any, ...], x: Any) -> NamedSharding:
    if not x.ndim or x.shape[0] != num_rows:
      return copied(mesh)
    if size > 1 and x.ndim > 1 and jax.tree_util.keystr(path[-1:], simple=True) == LATENTS:
      lengths.append(x.shape[1])
      if x.shape[1] % size == 0:
        return NamedSharding(mesh, PartitionSpec(rows, LATENTS))
    return NamedSharding(mesh, PartitionSpec(rows))

  shardings = jax.tree_util.tree_map_with_path(one, state)
  if size > 1 and not any(n % size == 0 for n in lengths):
    found = f"the model has {lengths[0]} latents" if lengths else "the model carries no latents"
    raise ValueError(f"mesh.latents={size}: {found}, which cannot be divided; use 1 or a divisor.")
  return shardings


def place(mesh: Mesh, num_rows: int, window: Mapping[str, np.ndarray]) -> dict[str, Array]:
  """Returns a window on the mesh, `[W, B, ...]`; `window` has the rows `own_rows` names.

  Each device gets its rows; no process needs those of another.
  """
  own = own_rows(mesh, num_rows)
  sharding = rows_sharding(mesh, num_rows, axis=1)

  def one(x: np.ndarray) -> Array:
    def part(index: tuple[slice, ...] | None) -> np.ndarray:
      assert index is not None
      start, stop, _ = index[1].indices(num_rows)
      return x[:, own.index(start) : own.index(stop - 1) + 1]

    return jax.make_array_from_callback((x.shape[0], num_rows, *x.shape[2:]), sharding, part)

  return {name: one(np.asarray(value)) for name, value in window.items()}


def put(tree: PyTree, shardings: PyTree) -> PyTree:
  """Returns arrays with the given shardings from arrays that every process has completely."""

  def one(x: Any, sharding: NamedSharding) -> Array:
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

  return jax.tree.map(one, tree, shardings)


def shape_of(mesh: Mesh) -> str:
  """Returns the axes with several devices as text.

  >>> shape_of(Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), (DATA, FSDP, LATENTS)))
  '1 device'
  """
  if mesh.size == 1:
    return "1 device"
  axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
  return f"{mesh.size} devices ({axes})"


def _describe(sizes: Mapping[str, int]) -> str:
  return ", ".join(f"{name}={size}" for name, size in sizes.items())


def _divisors(number: int) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]
