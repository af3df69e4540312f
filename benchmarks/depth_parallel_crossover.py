"""Accuracy and latency in one number, over compute: the point from which the ordinary net is better.

  python benchmarks/depth_parallel_crossover.py
  python benchmarks/depth_parallel_crossover.py --markdown=docs/depth_parallel.md --plot=docs/images/depth_parallel_crossover.png

A blob moves among noise. Frames come at a fixed rate; a free worker takes the newest one, and at each
frame's time the newest finished output is compared with the position of the blob at that time
(streaming evaluation: no output yet counts as wrong). Every net is a chain of one size whose layers
also read their inputs of the previous tick. It is trained to predict the position in the middle of
the time for which its output is shown, at all rates at which it is run. The difference is the
execution: all layers, then the next frame; or two or six stages in parallel, each on its own worker.

With the simulated clock a layer takes the same time everywhere; with the real one, one core
computes all layers, or two cores half of them each, as `DevicePipeline`s of one and two devices.
Nets are trained once and stored under --output. The real clock needs a quiet machine; --repeats=0
leaves it out.
"""

import functools
import pathlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import common
import depth_parallel_tasks as tasks
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.evaluation.metrics import streaming
from perceiver_stream.execution import DevicePipeline, Partition, Pipeline, partition
from perceiver_stream.execution.nets import convchain

SPEED, WIDTH, TICKS = 0.7, 8, 16
BUDGETS = (1, 1.5, 2, 3, 4, 6, 9, 12)  # layers that a worker computes in a frame's time
PERIODS = (0.4, 0.6, 0.8, 1.2, 2.0, 3.0)  # of a frame, in steps of the net on one core
ONE_CORE_EACH = {
  "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false",
  "JAX_PLATFORMS": "cpu",
}


class Sizes(NamedTuple):
  """Layers before the head, steps of training, frames of the test clip, its rows in eights."""

  depth: int
  steps: int
  frames: int
  eights: int


def cut_into(stages: int, depth: int) -> Partition:
  config = convchain.Config(channels=(WIDTH,) * depth, shortcut="concat", taps=2, output_dim=1)
  return partition(convchain.staged(config, tasks.SIDE, tasks.SIDE, 1), stages)


def stages_of(depth: int) -> list[int]:
  return sorted({1, 2, depth + 1})


def named(stages: int) -> str:
  return "sequential" if stages == 1 else f"{stages} stages"


def work(made: Partition) -> int:
  """Returns the layers of the largest stage, the work of one worker for one output."""
  return max(len(stage.layers) for stage in made.stages)


# --- training


def lesson(paces: int, key: Any) -> tuple[Any, Any]:
  """Returns a clip of every n-th frame, n of 1 to `paces`, and the future positions of the blob.

  A step that takes n frames' time ends n frames after its input, and its output is shown for n.
  """
  one, two = jax.random.split(key)
  pace = jax.random.randint(one, (), 1, paces + 1)
  shown = pace + (pace - 1) // 2
  frames, cells = tasks.blobs(two, paces * (TICKS - 1) + paces + paces // 2 + 1, SPEED)
  seen = jnp.arange(TICKS) * pace
  return frames[seen], cells[seen + shown]


def nets(folder: pathlib.Path, sizes: Sizes) -> dict[int, Any]:
  """Returns parameters by number of stages, trained once and stored in the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  found = {}
  for stages in stages_of(sizes.depth):
    made = cut_into(stages, sizes.depth)
    file = folder / f"{stages}_of_{sizes.depth + 1}_stages_{sizes.steps}_steps.npz"
    params = jax.jit(made.init)(jax.random.key(0))
    if not file.exists():
      clip = functools.partial(lesson, work(made))
      params = tasks.piped(made, params, tasks.cross_entropy, clip, sizes.steps, 0)
      np.savez(file, *map(np.asarray, jax.tree.leaves(params)))
    with np.load(file) as kept:
      leaves = [jnp.asarray(kept[name]) for name in kept.files]
    found[stages] = jax.tree.unflatten(jax.tree.structure(params), leaves)
  return found


# --- running and scoring


def clip_to_judge(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
  """Returns test frames `[T, B, H, W, 1]` and the positions of the blobs `[T, B]`."""
  keys = jax.random.split(jax.random.key(99), sizes.eights)
  parts = [tasks.blobs(key, sizes.frames, SPEED) for key in keys]
  frames, cells = (np.concatenate(found, axis=1) for found in zip(*parts, strict=True))
  return frames, cells


def method(step: Callable[[Any, int], tuple[Any, Any]], registers: Any) -> Callable[[int], Any]:
  """Returns a function from frame numbers to outputs, from a step with registers as its state."""

  def answer(frame: int) -> np.ndarray:
    nonlocal registers
    told, registers = step(registers, frame)
    return np.asarray(told)

  return answer


class Runner(NamedTuple):
  """A pipeline over the test clip: its `method` from `step` and initial registers."""

  step: Callable[[Any, int], tuple[Any, Any]]
  registers: Any


def on_one(made: Partition, params: Any, frames: np.ndarray) -> Runner:
  pipeline = Pipeline(made)
  tick = jax.jit(pipeline.step)

  def step(registers: Any, frame: int) -> tuple[Any, Any]:
    told, registers = tick(params, registers, {"frames": frames[frame]})
    return told["head"], registers

  return Runner(step, pipeline.initial(params, frames.shape[1]))


def on_devices(made: Partition, params: Any, frames: np.ndarray) -> Runner:
  row = DevicePipeline(made, jax.devices()[: len(made.stages)])
  packed = row.put_params(params)

  def step(carried: Any, frame: int) -> tuple[Any, Any]:
    seen = row.put_frames({"frames": frames[frame : frame + 1]})
    told, carried = row.unroll(packed, carried, seen)
    return row.answers(told)["head"][0], carried

  return Runner(step, row.initial(params, frames.shape[1]))


def judged(outputs: streaming.Outputs, cells: np.ndarray, fps: float) -> float:
  """Returns the share of frames with the newest output within a pixel at their time, in percent."""
  association = streaming.associate(outputs.input_frames, outputs.finish_times, len(cells), fps)
  values = dict(zip(outputs.input_frames.tolist(), outputs.values, strict=True))
  right = [
    0.0 if source == streaming.NOTHING else float(tasks.within_a_pixel(values[source], cell))
    for source, cell in zip(association.tolist(), cells, strict=True)
  ]
  return 100 * float(np.mean(right))


def marked(cells: np.ndarray) -> np.ndarray:
  """Returns the ideal heat map: 1 at the position of the blob."""
  return np.eye(tasks.SIDE**2, dtype=np.float32)[cells]


def held(cells: np.ndarray) -> float:
  """Returns the share of frames for which the position in the first frame is still right."""
  first = marked(cells[0])
  return 100 * float(np.mean([tasks.within_a_pixel(first, cell) for cell in cells]))


def simulated(step: Callable[[int], Any], seconds: float, cells: np.ndarray) -> float:
  """Returns the score of a method whose step takes the given number of frames' time."""
  clock = streaming.SimulatedClock()
  timed = clock.taking(step, lambda frame: seconds)
  return judged(streaming.run(timed, len(cells), 1, clock=clock, sleep=clock.sleep), cells, 1)


def in_theory(found: dict[int, Any], sizes: Sizes, budgets: Iterable[float]) -> list[list[float]]:
  """Returns a row for each budget, with scores by number of stages and that of perfect but late output.

  The last is the true position in the input frame, as late as the output of the net in one stage.
  """
  frames, cells = clip_to_judge(sizes)
  cuts = {stages: cut_into(stages, sizes.depth) for stages in found}
  runners = {stages: on_one(made, found[stages], frames) for stages, made in cuts.items()}
  rows = []
  for budget in budgets:
    row = [budget] + [
      simulated(method(*runner), work(cuts[stages]) / budget, cells)
      for stages, runner in runners.items()
    ]
    row.append(simulated(lambda i: marked(cells[i]), (sizes.depth + 1) / budget, cells))
    rows.append(row)
  return rows


def in_fact(folder: str, sizes: list[int], periods: list[float], repeats: int) -> dict[str, Any]:
  """Returns seconds of a step on one and on two devices, and scores in wall time."""
  asked = Sizes(*sizes)
  found, (frames, cells) = nets(pathlib.Path(folder), asked), clip_to_judge(asked)
  runners = {s: on_devices(cut_into(s, asked.depth), found[s], frames) for s in (1, 2)}
  calls = {str(s): functools.partial(method(*r), 0) for s, r in runners.items()}
  step_s = {stages: found.wall for stages, found in common.medians(calls, 20).items()}
  rows = []
  for period in periods:
    fps, scores = 1 / (period * step_s["1"]), {stages: [] for stages in runners}
    for _ in range(repeats):
      for stages, runner in runners.items():
        outputs = streaming.run(method(*runner), len(cells), fps)
        scores[stages].append(judged(outputs, cells, fps))
    rows.append([1e3 / fps, period, *(statistics.median(turns) for turns in scores.values())])
  return {"step_s": step_s, "rows": rows}


# --- tables and the plot


def crossing(x: Sequence[float], one: Sequence[float], other: Sequence[float]) -> float | None:
  """Returns the point from which `one` exceeds `other` for good, by linear interpolation."""
  ahead = np.asarray(one) - np.asarray(other)
  behind = np.nonzero(ahead <= 0)[0]
  if not len(behind) or behind[-1] == len(x) - 1:
    return None
  i = int(behind[-1])
  return float(x[i] + (x[i + 1] - x[i]) * -ahead[i] / (ahead[i + 1] - ahead[i]))


def draw(
  theory: list[list[float]], fact: list[list[float]], base: float, depth: int, path: str
) -> None:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.7), layout="constrained", dpi=80)
  left, *right = figure.subplots(1, 2 if fact else 1, sharey=True, squeeze=False)[0]
  budgets, *scores, eye = (list(column) for column in zip(*theory, strict=True))
  left.plot(budgets, eye, ":", color="0.4", label="perfect but late, sequential")
  _panel(left, budgets, dict(zip(stages_of(depth), scores, strict=True)), base)
  left.set_title("simulated clock", fontsize=10)
  left.set_xlabel("layers that a worker computes in a frame's time")
  left.set_ylabel("within a pixel at the frame's time, %")
  handles = left.get_legend_handles_labels()
  figure.legend(*handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
  for axis in right:
    _, periods, one, two = (list(column) for column in zip(*fact, strict=True))
    _panel(axis, periods, {1: one, 2: two}, base)
    axis.set_title("real clock, one core a stage", fontsize=10)
    axis.set_xlabel("a frame's time / a sequential step's time")
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path)


def _panel(axis: Any, x: Sequence[float], lines: dict[int, list[float]], base: float) -> None:
  """Draws scores over compute by number of stages, and the crossing of the fewest and the most."""
  for (stages, values), colour in zip(lines.items(), ("C0", "C2", "C1"), strict=False):
    axis.plot(x, values, marker="o", markersize=4, color=colour, label=named(stages))
  axis.axhline(base, color="0.7", linewidth=1, label="first output held")
  first, *_, last = lines.values()
  at = crossing(x, first, last)
  if at is not None:
    axis.axvline(at, color="0.3", linewidth=1, linestyle="--")
    axis.text(at, 20, f" equal at {at:.2g}", fontsize=9, color="0.3")
  axis.set_xscale("log")
  axis.set_xticks(x, [f"{value:g}" for value in x])
  axis.minorticks_off()
  axis.set_ylim(0, 100)


def tables(
  theory: list[list[float]], fact: dict[str, Any], base: float, depth: int
) -> list[common.Table]:
  columns = ["layers a frame", *(f"{named(stages)}, %" for stages in stages_of(depth))]
  columns += ["perfect but late, sequential, %", "first output held, %", "x sequential"]
  rows = [[*row, base, row[-2] / row[1] if row[1] else None] for row in theory]
  budgets, sequential, *_, full, _ = (list(column) for column in zip(*theory, strict=True))
  at = crossing(budgets, sequential, full)
  note = (
    f"x: {depth + 1} stages over sequential, which is better from {common.shown(at)} layers a frame on. A "
    f"pipeline has a worker per stage. 'Perfect but late' is the true position in the input "
    f"frame, as late as the net in one stage. Where a step is no whole number of frames, nets do worse: "
    f"outputs are alternately newer and older than in training."
  )
  found = [common.Table("Accuracy at the frame's time, simulated clock", columns, rows, note)]
  if not fact["rows"]:
    return found
  columns = ["a frame's time, ms", "in sequential steps", "one core, %", "two cores, %"]
  columns += ["first output held, %", "x one core"]
  rows = [[*row, base, row[3] / row[2] if row[2] else None] for row in fact["rows"]]
  ms = {stages: f"{1e3 * s:.3g} ms" for stages, s in fact["step_s"].items()}
  note = f"Medians of turns. A step takes {ms['1']} on one core, {ms['2']} on two."
  return [*found, common.Table("Accuracy at the frame's time, real clock", columns, rows, note)]


def main(argv: list[str] | None = None) -> None:
  more = {"steps": 300, "frames": 90, "eights": 4, "repeats": 3, "plot": ""}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  asked = (tasks.DEPTH, options.steps, options.frames, options.eights)
  sizes = Sizes(*((1, 1, 4, 1) if options.tiny else asked))
  folder = pathlib.Path(options.output) / "depth_parallel_crossover"
  theory = in_theory(nets(folder, sizes), sizes, BUDGETS[:1] if options.tiny else BUDGETS)
  probe = {"folder": str(folder), "sizes": list(sizes), "periods": PERIODS}
  if options.tiny:
    probe["periods"] = PERIODS[-1:]
  probe["repeats"] = 1 if options.tiny else options.repeats
  fact = {"rows": []}
  if probe["repeats"]:
    fact = common.fresh(in_fact, probe, ONE_CORE_EACH, inside=options.tiny)
  base = held(clip_to_judge(sizes)[1])
  if options.plot:
    draw(theory, fact["rows"], base, sizes.depth, options.plot)
  found = tables(theory, fact, base, sizes.depth)
  common.publish("depth_parallel_crossover", options, found, about)


if __name__ == "__main__":
  main()
