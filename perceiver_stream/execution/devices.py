"""A pipeline on several devices: each holds some stages and speaks to its neighbours alone.

What a stage wrote for a farther reader passes through the devices between, one hop after the other
within the tick; gradients come back the same way. On a CPU, numbers are those of `Pipeline` and of
`gradients("sideways")` on one device, to the last bit. Memory does not grow with time.

Every device runs one program, in which it chooses what is its own; parameters and registers of all
stages are therefore stored in buffers of one shape (`packing`), sharded over the devices.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from perceiver_stream.execution.device_program import AXIS, Carried, Packings, run_window
from perceiver_stream.execution.device_tick import Device, Entry
from perceiver_stream.execution.packing import Buffers, Packing
from perceiver_stream.execution.partition import Params, Partition
from perceiver_stream.execution.pipeline import Pipeline
from perceiver_stream.execution.teaching import Loss
from perceiver_stream.models.stages import Values


class DevicePipeline:
  """A partitioned model on a row of devices; its numbers equal those of the simulator."""

  def __init__(
    self,
    partition: Partition,
    devices: Sequence[Any] = (),
    loss: Loss | None = None,
    clocks: Sequence[int] = (),
  ):
    """Distributes the stages, as evenly as possible, over the devices.

    Args:
      partition: The model in stages.
      devices: In order of depth, of all processes; none means all there are.
      loss: As for `gradients`; needed for `learn` only.
      clocks: Of the stages, as for `Pipeline`.

    Raises:
      ValueError: There are more devices than stages, or the clocks are not those of the stages.
    """
    pipeline = Pipeline(partition, clocks)
    self.partition, self.loss = partition, loss
    row = list(devices) or jax.devices()
    self.num, depth = len(row), len(partition.stages)
    if self.num > depth:
      raise ValueError(
        f"DevicePipeline: {self.num} devices for {depth} stages of {partition.staged.name}; cut it into "
        f"more stages, or use fewer devices."
      )
    self.mesh = Mesh(np.asarray(row), (AXIS,))
    self.owner = [i * self.num // depth for i in range(depth)]
    self.links = self._links()
    shapes = partition.split(jax.eval_shape(partition.init, jax.random.key(0)))
    self.params_packing = Packing([self._of(d, shapes) for d in range(self.num)])
    self._devices = [Device(pipeline, self.owner, self.links, d) for d in range(self.num)]
    window = functools.partial(run_window, self._devices, self.params_packing, loss)
    everywhere = PartitionSpec(AXIS)
    self._program = jax.jit(
      jax.shard_map(
        window, mesh=self.mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
      )
    )

  # --- layout -------------------------------------------------------------------------------------

  def _links(self) -> list[list[Entry]]:
    """Returns the registers that cross from each device to the next."""
    links: list[set[Entry]] = [set() for _ in range(self.num - 1)]
    for i, stage in enumerate(self.partition.stages):
      for name, source in stage.reads.items():
        if source is not None:
          for d in range(self.owner[source], self.owner[i]):
            links[d].add((source, name))
    return [sorted(link) for link in links]

  def _of(self, device: int, by_stage: Sequence[PyTree]) -> dict[int, PyTree]:
    """Returns the part that belongs to the stages of a device."""
    return {i: x for i, x in enumerate(by_stage) if self.owner[i] == device}

  # --- in and out ---------------------------------------------------------------------------------

  def put_params(self, params: Params) -> Buffers:
    """Returns parameters of the whole model, or a tree like them, placed on the devices."""
    parts = self.partition.split(params)
    return self._placed([self.params_packing.pack(d, self._of(d, parts)) for d in range(self.num)])

  def get_params(self, packed: Buffers) -> Params:
    """Returns the parameters on the devices of this process."""
    held: dict[str, Any] = {}
    for shards in zip(*(x.addressable_shards for x in packed.values()), strict=True):
      device = _place(shards[0].index)
      buffers = {n: np.asarray(s.data)[0] for n, s in zip(packed, shards, strict=True)}
      for own in self.params_packing.unpack(device, buffers).values():
        held |= own
    return held

  def put_frames(self, frames: Mapping[str, PyTree]) -> Values:
    """Returns the inputs of T ticks, `[T, B, ...]`, on the first device only."""
    return self._on_one(dict(frames), 0)

  def put_targets(self, targets: PyTree) -> PyTree:
    """Returns the targets of T ticks on the last device."""
    return self._on_one(targets, self.num - 1)

  def answers(self, answers: Values) -> Values:
    """Returns the answers `[T, B, ...]` of the last device; only its process has them."""
    return jax.tree.map(lambda x: x.addressable_shards[-1].data[0], answers)

  def initial(self, params: Params, rows: int = 1) -> Carried:
    """Returns the registers before the first tick; `params` is a tree, not a result of `put_params`."""
    packs = Packings.of(self._devices, rows)
    own = [device.initial_own(params, rows) for device in self._devices]
    zeros = lambda pack: self._placed([pack.zeros()] * self.num)  # noqa: E731
    first = self._placed([packs.own.pack(d, x) for d, x in enumerate(own)])
    return Carried(first, zeros(packs.right), zeros(packs.back))

  def _placed(self, by_device: Sequence[Buffers]) -> Buffers:
    """Returns buffers `[devices, size]`, each on its device."""
    stacked = {n: np.stack([np.asarray(b[n]) for b in by_device]) for n in by_device[0]}
    return jax.tree.map(lambda x: self._shared(x.shape, lambda d: x[d]), stacked)

  def _on_one(self, tree: PyTree, device: int) -> PyTree:
    def one(x: Any) -> Array:
      host = np.asarray(x)
      part = lambda d: host if d == device else np.zeros_like(host)  # noqa: E731
      return self._shared((self.num, *host.shape), part)

    return jax.tree.map(one, tree)

  def _shared(self, shape: tuple[int, ...], part: Callable[[int], np.ndarray]) -> Array:
    sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
    return jax.make_array_from_callback(shape, sharding, lambda at: part(_place(at))[None])

  # --- over time ----------------------------------------------------------------------------------

  def unroll(self, params: Buffers, carried: Carried, frames: Values) -> tuple[Values, Carried]:
    """Returns the answers at T ticks, and the carried state after them; see `answers`.

    Args:
      params: From `put_params`.
      carried: From `initial` or the last call.
      frames: From `put_frames`.
    """
    output, carried = self._program(params, carried, dict(frames), None)
    return output.answers, carried

  def learn(
    self, params: Buffers, carried: Carried, frames: Values, targets: PyTree
  ) -> tuple[Buffers, Array, Carried]:
    """Returns the sum of T ticks' Sideways gradients, the last device's losses, and the carried state.

    Gradients are placed like parameters, so that an elementwise optimiser can be applied where they
    are. Arguments are as for `unroll`; targets are from `put_targets`.

    Raises:
      ValueError: The pipeline was made without a loss.
    """
    if self.loss is None:
      raise ValueError("DevicePipeline.learn: it was made without a loss; give it one.")
    output, carried = self._program(params, carried, dict(frames), targets)
    return output.gradients, output.losses, carried


def _place(index: Any) -> int:
  """Returns the device of each shard of an array `[devices, ...]`."""
  return index[0].start or 0
