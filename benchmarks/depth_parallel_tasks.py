"""Training pipelines to predict the present from a delayed path.

  python benchmarks/depth_parallel_tasks.py
  python benchmarks/depth_parallel_tasks.py --markdown=docs/depth_parallel.md

The task is the current position of a blob among static ones. The table has the accuracy (within a
pixel) of the ordinary net, of its weights with every layer a stage, and of pipelines trained with
the labels alone and with the ordinary net as a teacher. The stream of new clips is endless.
"""

from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import optax

from perceiver_stream.execution import Pipeline, distilling, partition
from perceiver_stream.execution.nets import convchain

SIDE, ROWS, TICKS = 12, 8, 20
WIDTH, DEPTH = 12, 5  # of the chain of convolutions
LATE = DEPTH + 1  # scored from this tick on: every pipeline is full


def texture(key: Any, rows: int, side: int) -> Any:
  """Returns smooth noise `[rows, side, side]` of unit variance that repeats at its borders."""
  noise = jnp.fft.fft2(jax.random.normal(key, (rows, side, side)))
  f = jnp.fft.fftfreq(side) * side
  y, x = jnp.meshgrid(f, f, indexing="ij")
  envelope = jnp.exp(-(x**2 + y**2) / (0.08 * side**2))[None]
  smooth = jnp.fft.ifft2(noise * envelope.astype(noise.dtype)).real
  return smooth / jnp.std(smooth, axis=(1, 2), keepdims=True)


def moved(picture: Any, y: Any, x: Any) -> Any:
  """Returns images `[rows, side, side]` moved by fractions of pixels, `[rows]`."""
  f = jnp.fft.fftfreq(picture.shape[1])
  phase = y[:, None, None] * f[None, :, None] + x[:, None, None] * f[None, None, :]
  turn = jax.lax.complex(jnp.cos(2 * jnp.pi * phase), -jnp.sin(2 * jnp.pi * phase))
  return jnp.fft.ifft2(jnp.fft.fft2(picture) * turn).real


def sliding(key: Any, ticks: int, speed: float, rows: int = ROWS, side: int = SIDE) -> Any:
  """Returns frames `[ticks, rows, side, side, 1]` of moving textures, and their directions."""
  one, two = jax.random.split(key)
  right = jax.random.bernoulli(two, 0.5, (rows,))
  start, step = texture(one, rows, side), jnp.where(right, speed, -speed)
  at = jax.vmap(lambda t: moved(start, 0 * step, t * step))(jnp.arange(float(ticks)))
  return at[..., None], right.astype(jnp.int32)


def blobs(key: Any, ticks: int, speed: float) -> tuple[Any, Any]:
  """Returns frames of a blob that moves among noise, and its position as a flat index."""
  keys = jax.random.split(key, 3)
  start = jax.random.uniform(keys[0], (ROWS, 2), maxval=float(SIDE))
  angle = jax.random.uniform(keys[1], (ROWS,), maxval=2 * jnp.pi)
  step = speed * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  still = 0.5 * texture(keys[2], ROWS, SIDE)
  grid = jnp.arange(float(SIDE))

  def frame(t: Any) -> tuple[Any, Any]:
    y, x = jnp.moveaxis((start + t * step) % SIDE, -1, 0)
    away = lambda p: (grid[None] - p[:, None] + SIDE / 2) % SIDE - SIDE / 2  # noqa: E731
    blob = jnp.exp(-(away(y)[:, :, None] ** 2 + away(x)[:, None, :] ** 2) / 2)
    cell = (jnp.round(y) % SIDE) * SIDE + jnp.round(x) % SIDE
    return (still + 2 * blob)[..., None], cell.astype(jnp.int32)

  return jax.vmap(frame)(jnp.arange(float(ticks)))


def cross_entropy(answer: Any, target: Any) -> Any:
  """Returns the loss of classes, one per frame or per position."""
  logits = answer["head"].reshape(target.shape[0], -1)
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, target))


def squared(answer: Any, target: Any) -> Any:
  return jnp.mean(jnp.square(answer["head"] - target))


def chain(depth: int, shortcut: str, **head: Any) -> Any:
  """Returns a chain of the given number of layers and a head."""
  config = convchain.Config(channels=(WIDTH,) * depth, shortcut=shortcut, **head)
  return convchain.staged(config, SIDE, SIDE, 1)


def piped(made: Any, params: Any, loss: Callable, clip: Callable, steps: int, seed: int) -> Any:
  """Returns parameters trained by exact gradients through the running pipeline."""
  pipeline, optimizer = Pipeline(made, tells_all=True), optax.adam(1e-3)

  def learn(carry: Any, key: Any) -> Any:
    params, state = carry
    frames, targets = clip(key)

    def total(params: Any) -> Any:
      answers, _ = pipeline.unroll(
        params, pipeline.initial(params, frames.shape[1]), {"frames": frames}
      )
      late = jax.tree.map(lambda x: x[made.delay :], (answers, targets))
      return jnp.mean(jax.vmap(loss)(*late))

    slopes = jax.grad(total)(params)
    with jax.numpy_dtype_promotion("standard"):
      updates, state = optimizer.update(slopes, state, params)
    return (optax.apply_updates(params, updates), state), None

  keys = jax.random.split(jax.random.key(seed + 1), steps)
  return jax.jit(lambda c, k: jax.lax.scan(learn, c, k))((params, optimizer.init(params)), keys)[0][
    0
  ]


def scored(
  made: Any, params: Any, clip: Callable, score: Callable, clips: int, late: int = LATE
) -> float:
  """Returns the mean score of new clips, from the tick on at which every pipeline is full."""
  pipeline = Pipeline(made)

  def one(key: Any) -> Any:
    frames, targets = clip(key)
    registers = pipeline.initial(params, frames.shape[1])
    answers, _ = pipeline.unroll(params, registers, {"frames": frames})
    told = jax.tree.map(lambda x: x[late:], (answers["head"], targets))
    return jnp.mean(jax.vmap(score)(*told))

  keys = jax.random.split(jax.random.key(99), clips)
  return float(jnp.mean(jax.jit(lambda keys: jax.lax.map(one, keys))(keys)))


def within_a_pixel(heat: Any, cell: Any) -> Any:
  """Returns the share of outputs that are at most a pixel off in both directions."""
  found = jnp.argmax(heat.reshape(heat.shape[0], -1), axis=-1)
  away = lambda a, b: jnp.abs((a - b + SIDE // 2) % SIDE - SIDE // 2)  # noqa: E731
  off = jnp.maximum(away(found // SIDE, cell // SIDE), away(found % SIDE, cell % SIDE))
  return jnp.mean((off <= 1).astype(jnp.float32))


def present(steps: int, clips: int, depth: int, most: int) -> common.Table:
  clip = lambda key: blobs(key, TICKS, 0.7)  # noqa: E731
  staged = chain(depth, "concat", output_dim=1)
  whole, full = partition(staged, 1), partition(staged, min(depth + 1, most))
  start = jax.jit(whole.init)(jax.random.key(0))
  teacher = piped(whole, start, cross_entropy, clip, steps, 0)
  start_twin = distilling.sequential_teacher(full).initial

  def shown(key: Any) -> Any:
    frames, cells = clip(key)
    seen, before = {"frames": frames}, start_twin(teacher, ROWS)
    return frames, distilling.shown(full, teacher, before, seen, cells)[0]

  distilled = distilling.distilled(cross_entropy, distilling.activations, 3.0)
  more = -(-steps // 4)
  longer = piped(whole, teacher, cross_entropy, clip, more, 7)
  late = piped(full, teacher, cross_entropy, clip, more, 7)
  soft = piped(full, teacher, distilled, shown, more, 7)
  found = [
    ("one stage: the ordinary net", whole, longer),
    ("its weights, each layer a stage", full, longer),
    ("… trained on the present", full, late),
    ("… and distilled", full, soft),
  ]
  score = lambda made, params: 100 * scored(made, params, clip, within_a_pixel, clips)  # noqa: E731
  values = [score(made, params) for _, made, params in found]
  lost = values[0] - values[1]
  back = lambda value: max(0.0, value - values[1]) / lost if lost > 1 else None  # noqa: E731
  rows = [
    [name, len(made.stages), value, back(value)]
    for (name, made, _), value in zip(found, values, strict=True)
  ]
  note = (
    f"A blob at 0.7 pixels a tick; {steps} clips of {ROWS} blobs for the ordinary net, then {more} "
    f"more for it and for both pipelines alike."
  )
  columns = ["net", "stages", "within a pixel, %", "x of the loss recovered"]
  return common.Table("Predicting the present from a delayed path", columns, rows, note)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"steps": 400, "clips": 20})
  about = common.machine()
  sizes = (1, 1, 1, 1) if options.tiny else (options.steps, options.clips, DEPTH, DEPTH + 1)
  common.publish("depth_parallel_tasks", options, [present(*sizes)], about)


if __name__ == "__main__":
  main()
