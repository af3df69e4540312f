"""Keypoints from a pipeline: accuracy against the number of stages and the speed of the objects.

  python benchmarks/depth_parallel_keypoints.py
  python benchmarks/depth_parallel_keypoints.py --markdown=docs/depth_parallel.md

Three coloured blobs move and bounce over static noise; a DenseNet and an Inception net predict their
current positions, by heat maps. PCK is the share within a fifth of the extent of the three. Rows are
the net itself, its weights partitioned into stages, and pipelines trained to predict the present from
the delayed path: with the labels, and with the ordinary net as a teacher. One training covers all
speeds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from depth_parallel_tasks import ROWS, piped, texture

from perceiver_stream.evaluation.metrics.pck import pck
from perceiver_stream.execution import Pipeline, distilling, partition
from perceiver_stream.execution.nets import densenet, heatmap, inception
from perceiver_stream.execution.partition import Partition

SIDE, TICKS, POINTS = 24, 12, 3
SPEEDS = (0.25, 0.5, 1.0)  # pixels a tick
NETS = {
  "DenseNet": (
    densenet.staged,
    densenet.Config(stem_channels=12, growth=8, blocks=(2, 2), bottleneck=2, num_keypoints=POINTS),
  ),
  "Inception": (
    inception.staged,
    inception.Config(
      stem=(12,), modules=((6, 6, 8, 4, 6, 4),) * 2, halve_before=(1,), num_keypoints=POINTS
    ),
  ),
}


def flights(key: Any, speeds: Any) -> tuple[Any, Any]:
  """Returns frames `[TICKS, ROWS, SIDE, SIDE, 3]` and points `[TICKS, ROWS, POINTS, 2]`, (x, y)."""
  keys = jax.random.split(key, 3)
  span = SIDE - 6.0  # they turn round three pixels from each border
  start = jax.random.uniform(keys[0], (1, ROWS, POINTS, 2), maxval=2 * span)
  angle = jax.random.uniform(keys[1], (1, ROWS, POINTS), maxval=2 * jnp.pi)
  step = speeds[None, :, None, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
  t = jnp.arange(float(TICKS))[:, None, None, None]
  points = 3 + jnp.abs((start + t * step) % (2 * span) - span)
  grid = jnp.arange(float(SIDE))[None, None, None] + 0.5
  x, y = (jnp.exp(-jnp.square(grid - points[..., i, None]) / 4) for i in (0, 1))
  still = 0.3 * texture(keys[2], ROWS * POINTS, SIDE).reshape(1, ROWS, POINTS, SIDE, SIDE)
  frames = still + 2 * y[..., :, None] * x[..., None, :]
  return jnp.moveaxis(frames, 2, -1), points


def learners(made: Partition, stride: int, steps: int) -> tuple[Callable, Callable]:
  """Returns `teach(parameters or None) -> parameters`, plainly and by a teacher with those."""

  def clip(key: Any) -> Any:
    one, two = jax.random.split(key)
    return flights(one, jax.random.uniform(two, (ROWS,), maxval=max(SPEEDS)))

  def loss(answer: Any, points: Any) -> Any:
    maps = answer[made.staged.outputs[0]]
    return heatmap.loss(maps, heatmap.gaussian(points, maps.shape[1], maps.shape[2], stride, 0.5))

  def taught(params: Any) -> Any:
    return piped(made, params, loss, clip, steps, 7)

  def by_twin(params: Any) -> Any:
    before = distilling.sequential_teacher(made).initial(params, ROWS)

    def shown(key: Any) -> Any:
      frames, points = clip(key)
      return frames, distilling.shown(made, params, before, {"frames": frames}, points)[0]

    return piped(
      made, params, distilling.distilled(loss, distilling.activations, 3.0), shown, steps, 7
    )

  return taught, by_twin


def scorer(made: Partition, stride: int, clips: int, skip: int) -> Callable[[Any, float], float]:
  """Returns `(parameters, speed) -> PCK`, from the tick on at which every pipeline is full."""
  pipeline = Pipeline(made)

  def one(params: Any, speed: Any, key: Any) -> Any:
    frames, points = flights(key, jnp.full(ROWS, speed))
    answers, _ = pipeline.unroll(params, pipeline.initial(params, ROWS), {"frames": frames})
    (maps,) = answers.values()
    return jax.vmap(lambda x: heatmap.soft_argmax(x, stride))(maps), points

  watch = jax.jit(lambda p, s, keys: jax.lax.map(lambda key: one(p, s, key), keys))
  keys = jax.random.split(jax.random.key(99), clips)

  def score(params: Any, speed: float) -> float:
    found = watch(params, jnp.float32(speed), keys)
    # The metric leaves out each clip's first frame.
    said, truth = (np.asarray(x).swapaxes(1, 2)[:, :, skip - 1 :] for x in found)
    said, truth = (x.reshape(-1, *x.shape[2:]) for x in (said, truth))
    seen = [np.ones(x.shape[:2], bool) for x in truth]
    return float(np.mean(pck(list(truth), list(said), seen, threshold=0.2)))

  return score


def keypoints(name: str, net: Any, steps: int, clips: int, cuts: Sequence[int]) -> common.Table:
  """Returns the table of one net of `NETS`."""
  make, config = net
  staged, stride = make(config, SIDE, SIDE), config.stride
  whole, skip = partition(staged, 1), len(staged.layers)
  start = jax.jit(whole.init)(jax.random.key(0))
  teacher = learners(whole, stride, 3 * steps)[0](start)
  score = scorer(whole, stride, clips, skip)
  best = {speed: score(teacher, speed) for speed in SPEEDS}
  rows: list[list[Any]] = [[1, speed, best[speed], None, None, 1.0] for speed in SPEEDS]
  for number in cuts:
    made = partition(staged, number)
    plain, soft = (learn(teacher) for learn in learners(made, stride, steps))
    score = scorer(made, stride, clips, skip)
    for speed in SPEEDS:
      values = [score(params, speed) for params in (teacher, plain, soft)]
      rows.append([len(made.stages), speed, *values, max(values) / max(best[speed], 1e-9)])
  columns = ["stages", "pixels a tick", "its weights, %", "trained on the present, %"]
  note = (
    f"PCK at 0.2, {SIDE}×{SIDE} pixels, maps of {SIDE // stride}×{SIDE // stride} cells, shortcuts "
    f"fresh; {steps} clips of {ROWS} scenes after {3 * steps} of the ordinary net."
  )
  return common.Table(
    f"Keypoints, {name}", [*columns, "and distilled, %", "x one stage"], rows, note
  )


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"steps": 150, "clips": 10})
  about = common.machine()
  if options.tiny:
    smallest = densenet.Config(
      stem_channels=2, growth=2, blocks=(1,), bottleneck=0, num_keypoints=POINTS
    )
    tables = [keypoints("DenseNet", (densenet.staged, smallest), 1, 1, (2,))]
  else:
    sizes = (options.steps, options.clips, (3, 0))
    tables = [keypoints(name, net, *sizes) for name, net in NETS.items()]
  common.publish("depth_parallel_keypoints", options, tables, about)


if __name__ == "__main__":
  main()
