"""Measurements of pipelines: identities, cosine of Sideways and backprop, memory, frames a second.

  python benchmarks/depth_parallel.py
  python benchmarks/depth_parallel.py --markdown=docs/depth_parallel.md --plot=docs/images/depth_parallel.png

Their accuracy is measured by benchmarks/depth_parallel_tasks.py.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import common
import depth_parallel_tasks as tasks
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.execution import DevicePipeline, Pipeline, gradients, partition
from perceiver_stream.execution.nets import convchain, vit

SPEEDS = (0.0, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0)
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}


def chain(depth: int, side: int = 12, width: int = 8) -> Any:
  """Returns a chain of the given number of layers, including the head."""
  config = convchain.Config(channels=(width,) * (depth - 1), output_dim=1)
  return convchain.staged(config, side, side, 1)


@functools.cache
def teacher(rule: str, depth: int, stages: int) -> tuple[Any, Callable]:
  """Returns a cut chain, and the gradients of all ticks of a clip as vectors, `[T, P]`."""
  made = partition(chain(depth), stages)
  teach = gradients(rule, made, tasks.squared)

  def tick(carry: Any, now: Any) -> Any:
    told, registers = teach.step(carry[0], carry[1], {"frames": now[0]}, now[1])
    found = jnp.concatenate([x.ravel() for x in jax.tree.leaves(told.gradients)])
    return (carry[0], registers), found

  def run(params: Any, frames: Any, targets: Any) -> Any:
    first = params, teach.initial(params, frames.shape[1])
    return jax.lax.scan(tick, first, (frames, targets))[1]

  return made, jax.jit(run)


def taught(rule: str, depth: int, stages: int, frames: Any, targets: Any) -> Any:
  """Returns the gradient of every tick as one vector, `[T, P]`, of an untrained chain."""
  made, run = teacher(rule, depth, stages)
  return np.asarray(run(jax.jit(made.init)(jax.random.key(0)), frames, targets))


def cosines(depth: int, speed: float, rows: int) -> tuple[float, float]:
  """Returns the change from frame to frame, and the cosine between Sideways and backprop."""
  frames, _ = tasks.sliding(jax.random.key(1), 3 * depth, speed, rows)
  target = jax.random.normal(jax.random.key(2), frames.shape[1:])
  targets = jnp.broadcast_to(target, frames.shape)
  one, other = (taught(r, depth, depth, frames, targets) for r in ("sideways", "backprop"))
  late = slice(2 * (depth - 1), None)
  dot = np.sum(one[late] * other[late], axis=1)
  cosine = dot / np.linalg.norm(one[late], axis=1) / np.linalg.norm(other[late], axis=1)
  change = float(jnp.sqrt(jnp.mean(jnp.square(frames[1:] - frames[:-1]))))
  return change, float(np.mean(cosine))


def identities(depth: int, rows: int) -> common.Table:
  staged, ticks, late, found = chain(depth), 14, depth - 1, []
  frames = jax.random.normal(jax.random.key(1), (ticks, rows, 12, 12, 1))
  still = jnp.broadcast_to(frames[:1], frames.shape)
  targets = jnp.ones_like(frames)
  params = jax.jit(partition(staged).init)(jax.random.key(0))
  exact = taught("backprop", depth, 1, still, targets)
  for rule in ("sideways", "buffered"):
    off = np.abs(taught(rule, depth, depth, still, targets) - exact)[2 * late :]
    found.append(
      [f"{rule}, {depth} stages, still video", off.max(), off.max() / np.abs(exact).max()]
    )
  exact = taught("backprop", depth, 1, frames, targets)
  off = np.abs(taught("sideways", depth, 1, frames, targets) - exact)
  found.append(["sideways, 1 stage, noise", off.max(), off.max() / np.abs(exact).max()])
  answers = {}
  for stages in (1, depth):
    pipeline = Pipeline(partition(staged, stages))
    told, _ = pipeline.unroll(params, pipeline.initial(params, rows), {"frames": frames})
    answers[stages] = np.asarray(told["head"])
  off = np.abs(answers[depth][late:] - answers[1][:-late])
  found.append(
    [f"answers, {depth} stages, {late} ticks later", off.max(), off.max() / answers[1].max()]
  )
  rows_of = [[name, float(a), float(b)] for name, a, b in found]
  return common.Table(
    "Differences that must vanish", ["what", "largest", "x largest number"], rows_of
  )


def curve(depths: tuple[int, ...], speeds: tuple[float, ...], rows: int, plot: str) -> common.Table:
  columns, lines = ["pixels a tick", "change"], {}
  for depth in depths:
    lines[depth] = [cosines(depth, speed, rows) for speed in speeds]
    columns.append(f"cosine, {depth} stages")
  found = [
    [s, lines[depths[0]][i][0], *(max(0.0, lines[d][i][1]) for d in depths)]
    for i, s in enumerate(speeds)
  ]
  first = found[0][2]
  if plot:
    draw(lines, pathlib.Path(plot))
  note = "Change: root mean square from frame to frame, of textures of variance 1. Cosines below 0 are 0."
  rows_of = [[*row, row[2] / first] for row in found]
  return common.Table("Sideways and backprop", [*columns, "x still"], rows_of, note)


def draw(lines: dict[int, list[tuple[float, float]]], path: pathlib.Path) -> None:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5, 3), layout="constrained", dpi=80)
  axis = figure.subplots()
  for depth, points in lines.items():
    axis.plot(*zip(*points, strict=True), marker="o", label=f"{depth} stages")
  axis.set_xlabel("change from frame to frame (root mean square)")
  axis.set_ylabel("cosine to backprop")
  axis.legend(frameon=False)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path)


def memory(depths: tuple[int, ...], ticks: int) -> common.Table:
  """Returns the bytes carried from tick to tick, and those of compiled windows."""
  found = []
  for depth in depths:
    made = partition(chain(depth))
    params = jax.eval_shape(made.init, jax.random.key(0))
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    carried = {
      rule: size(jax.eval_shape(gradients(rule, made, tasks.squared).initial, params)) / 1e3
      for rule in ("sideways", "buffered")
    }
    frames = jax.ShapeDtypeStruct((ticks, 1, 12, 12, 1), jnp.float32)
    temps = [common.program(f, params, frames).temp_bytes / 1e3 for f in windows_of(made)]
    found.append([depth, *carried.values(), carried["buffered"] / carried["sideways"], *temps])
  columns = ["stages", "Sideways carries, kB", "buffered, kB", "x Sideways"]
  columns += [f"{ticks} ticks of Sideways, kB", "of exact gradients, kB"]
  note = (
    "Carried: registers and buffers. The last two: XLA's temporary memory for a window, compiled."
  )
  return common.Table("Memory", columns, found, note)


def windows_of(made: Any) -> tuple[Callable, Callable]:
  """Returns the sum of Sideways gradients over a window, and its exact gradient."""
  rule, pipeline = gradients("sideways", made, tasks.squared), Pipeline(made)

  def sideways(params: Any, frames: Any) -> Any:
    def tick(carry: Any, frame: Any) -> Any:
      told, registers = rule.step(params, carry[0], {"frames": frame}, frame)
      return (registers, jax.tree.map(jnp.add, carry[1], told.gradients)), None

    first = rule.initial(params), jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(tick, first, frames)[0][1]

  def exact(params: Any, frames: Any) -> Any:
    def total(params: Any) -> Any:
      answers, _ = pipeline.unroll(params, pipeline.initial(params), {"frames": frames})
      return tasks.squared(answers, frames)

    return jax.grad(total)(params)

  return sideways, exact


def race(side: int, dim: int, layers: int, ticks: int, repeats: int) -> dict[str, float]:
  """Returns frames a second of one stage on one device and of two stages on two; they take turns."""
  config = vit.Config(patch=8, dim=dim, num_layers=layers, num_heads=4, mlp_dim=4 * dim)
  staged = vit.staged(config, side, side)
  frames = {"frames": np.zeros((ticks, 1, side, side, 3), np.float32)}
  half = partition(staged, (len(staged.layers) // 2,))
  params = jax.jit(half.init)(jax.random.key(0))
  runs = {}
  for name, made, devices in (
    ("sequential", partition(staged, 1), jax.devices()[:1]),
    ("two devices", half, jax.devices()[:2]),
  ):
    row = DevicePipeline(made, devices)
    runs[name] = (row, row.put_params(params), row.initial(params), row.put_frames(frames))
  spent: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(repeats + 1):
    for name, (row, *arguments) in runs.items():
      start = time.perf_counter()
      jax.block_until_ready(row.unroll(*arguments))
      spent[name].append(time.perf_counter() - start)
  return {name: ticks / min(times[1:]) for name, times in spent.items()}


def throughput(is_tiny: bool) -> common.Table:
  sizes = {"side": 64, "dim": 192, "layers": 8, "ticks": 100, "repeats": 7}
  if is_tiny:
    sizes = {"side": 16, "dim": 8, "layers": 2, "ticks": 2, "repeats": 1}
  found = common.fresh(race, sizes, TWO_DEVICES, inside=is_tiny)
  rows = [[name, rate, rate / found["sequential"]] for name, rate in found.items()]
  note = "A transformer of 8 blocks in two halves, one frame at a time; the best of 7 turns each."
  return common.Table("Frames a second", ["execution", "frames/s", "x sequential"], rows, note)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"plot": ""})
  about, is_tiny = common.machine(), options.tiny
  depths, speeds = ((2,), (0.0,)) if is_tiny else ((3, 5, 9), SPEEDS)
  tables = [
    identities(2 if is_tiny else 5, 1),
    curve(depths, speeds, 1 if is_tiny else 8, options.plot),
    memory((2,) if is_tiny else (4, 8, 16), 4 if is_tiny else 32),
    throughput(is_tiny),
  ]
  common.publish("depth_parallel", options, tables, about)


if __name__ == "__main__":
  main()
