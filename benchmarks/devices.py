"""Memory per device and time per window for every axis of the mesh.

  python benchmarks/devices.py

Devices are those of the machine, or the requested number of simulated ones on its CPU, which then
share its cores: there the memory per device is the result, and the time only shows the overhead.
"""

import dataclasses
import statistics
import time
from typing import Any

import common
import jax
import numpy as np

from perceiver_stream import streams, zoo
from perceiver_stream.training import ExperimentConfig, MeshConfig, ObjectiveConfig
from perceiver_stream.training.loop import Learner
from perceiver_stream.training.parts import make_parts

LAYOUTS: dict[str, dict[str, int]] = {  # sizes of the axes; nothing is one device
  "one device": {"data": 1},
  "data 2": {"data": 2},
  "data 4": {"data": 4},
  "fsdp 2": {"data": 1, "fsdp": 2},
  "fsdp 4": {"data": 1, "fsdp": 4},
  "latents 2": {"data": 1, "latents": 2},
  "latents 4": {"data": 1, "latents": 4},
}


def measure(mesh: dict[str, int], tiny: bool) -> dict[str, float]:
  """Returns seconds per window and the bytes on the fullest device."""
  world = streams.synthetic.Config(modalities=("pixels",), height=32, width=32)
  model = zoo.config("stream_perceiver/nano" if tiny else "stream_perceiver/tiny")
  config = ExperimentConfig(
    model=dataclasses.replace(model, displacements=(1,)),
    stream=world,
    objective=ObjectiveConfig(window=2 if tiny else 8),
    mesh=MeshConfig(**mesh),
    use_baselines=False,
    num_rows=4,
  )
  parts = make_parts(config)
  learner = Learner(parts)
  windows: Any = iter(parts.windows)
  spent = []
  for _ in range(2 if tiny else 8):
    window = next(windows)
    start = time.perf_counter()
    jax.block_until_ready(learner.learn(window))
    spent.append(time.perf_counter() - start)
  windows.close()
  state = learner.state
  return {
    "window_s": statistics.median(spent[1:]),
    "params": held(state.params),
    "opt_state": held(state.opt_state),
    "model_state": held(state.model_state),
  }


def held(tree: Any) -> int:
  """Returns the bytes of a tree on the device with the largest part of it."""
  sums: dict[Any, int] = {}
  for array in jax.tree.leaves(tree):
    for shard in array.addressable_shards:
      sums[shard.device] = sums.get(shard.device, 0) + shard.data.nbytes
  return int(np.max(list(sums.values())))


def main(argv: list[str] | None = None) -> None:
  """Measures, prints and writes the requested tables."""
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  layouts = {n: m for n, m in LAYOUTS.items() if not options.tiny or n == "one device"}
  flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
  rows, base = [], {}
  for name, mesh in layouts.items():
    asked = {"mesh": mesh, "tiny": options.tiny}
    found = common.fresh(measure, asked, flags, inside=options.tiny)
    base = base or found
    sizes = [found[part] / common.MB for part in ("params", "opt_state", "model_state")]
    share = (sizes[0] + sizes[1]) * common.MB / (base["params"] + base["opt_state"])
    rows.append(
      [name, *sizes, share, 1e3 * found["window_s"], found["window_s"] / base["window_s"]]
    )
  columns = [
    "mesh", "parameters MB", "optimiser MB", "state MB", "x share", "window ms", "x one device",
  ]  # fmt: skip
  note = (
    "Bytes on the fullest device; 4 rows. `x share` is parameters and optimiser relative to one device's. "
    "All devices share the cores of one CPU, so nothing is faster here."
  )
  table = common.Table("Memory per device, and time per window", columns, rows, note)
  common.publish("devices", options, [table], about)


if __name__ == "__main__":
  main()
