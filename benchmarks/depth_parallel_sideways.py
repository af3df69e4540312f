"""Accuracy of Sideways on two tasks: direction of motion, and the next frame.

  python benchmarks/depth_parallel_sideways.py
  python benchmarks/depth_parallel_sideways.py --markdown=docs/depth_parallel.md

Frames are of moving vertical bars, an endless stream of new clips. *Direction*: no single frame shows
it. *Next frame*: the frame a tick after the newest. Nets are chains of convolutions, all trained in
the same way; the rule, the shortcut and the partition differ. Direction is trained by gradient
descent with momentum: with Adam the first layers, whose gradients are the most stale, move as fast
as the last, and the solution is lost again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import common
import depth_parallel_tasks as tasks
import jax
import jax.numpy as jnp
import optax

from perceiver_stream.execution import gradients, partition
from perceiver_stream.execution.nets import convchain

HEIGHT, WIDTH, ROWS, TICKS = 4, 16, 32, 16
CHANNELS, DEPTH, LATE = 12, 4, 6  # scored from tick LATE on: every pipeline is full
SHORT = (1, 2)  # the last stage has all layers but two
EACH = (1, 2, 3, 4)


def sliding(key: Any, ticks: int, speed: float) -> tuple[Any, Any]:
  """Returns frames `[ticks, ROWS, HEIGHT, WIDTH, 1]` of moving bars of unit variance, and directions."""
  one, two = jax.random.split(key)
  right = jax.random.bernoulli(two, 0.5, (ROWS,))
  f = jnp.fft.fftfreq(WIDTH) * WIDTH
  envelope = jnp.exp(-(f**2) / (0.03 * WIDTH**2))[None]
  start = jnp.fft.fft(jax.random.normal(one, (ROWS, WIDTH))) * envelope.astype(jnp.complex64)
  start = start / jnp.std(jnp.fft.ifft(start).real, axis=1, keepdims=True).astype(jnp.complex64)
  step = 2 * jnp.pi * jnp.where(right, speed, -speed)[:, None] * f[None] / WIDTH

  def frame(t: Any) -> Any:
    bars = jnp.fft.ifft(start * jax.lax.complex(jnp.cos(t * step), -jnp.sin(t * step))).real
    return jnp.broadcast_to(bars[:, None, :, None], (ROWS, HEIGHT, WIDTH, 1))

  return jax.vmap(frame)(jnp.arange(float(ticks))), right.astype(jnp.int32)


def chain(shortcut: str, depth: int, span: int = 3, **head: Any) -> Any:
  """Returns a chain of convolutions and a head."""
  sizes = {"channels": (CHANNELS,) * depth, "shortcut": shortcut, "span": span}
  return convchain.staged(convchain.Config(**sizes, **head), HEIGHT, WIDTH, 1)


def taught(made: Any, rule: str, loss: Callable, clip: Callable, steps: int, adam: bool) -> Any:
  """Returns parameters after training on clips, each with the sum of its ticks' gradients."""
  teach = gradients(rule, made, loss)
  falling = lambda rate: optax.cosine_decay_schedule(rate, steps)  # noqa: E731
  learns = optax.adam(falling(1e-3)) if adam else optax.sgd(falling(0.03), momentum=0.9)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), learns)

  def learn(carry: Any, key: Any) -> Any:
    params, state = carry
    frames, targets = clip(key)

    def tick(flowing: Any, now: Any) -> Any:
      told, registers = teach.step(params, flowing[0], {"frames": now[0]}, now[1])
      return (registers, jax.tree.map(jnp.add, flowing[1], told.gradients)), None

    first = teach.initial(params, ROWS), jax.tree.map(jnp.zeros_like, params)
    (_, found), _ = jax.lax.scan(tick, first, (frames, targets))
    with jax.numpy_dtype_promotion("standard"):  # needed by adam
      updates, state = optimizer.update(found, state, params)
    return (optax.apply_updates(params, updates), state), None

  params = jax.jit(made.init)(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), steps)
  run = jax.jit(lambda carry, keys: jax.lax.scan(learn, carry, keys)[0][0])
  return run((params, optimizer.init(params)), keys)


def directions(
  steps: int, clips: int, depth: int, short: Sequence[int], each: Sequence[int]
) -> common.Table:
  def clip(key: Any) -> Any:
    frames, right = sliding(key, TICKS, 1.0)
    return frames, jnp.broadcast_to(right[None], (TICKS, ROWS))

  def loss(answer: Any, right: Any) -> Any:
    found = optax.softmax_cross_entropy_with_integer_labels(answer["head"], right)
    return jnp.mean(found)

  score = lambda logits, right: jnp.mean((jnp.argmax(logits, -1) == right).astype(jnp.float32))  # noqa: E731
  rows = []
  for name, shortcut, rule, starts in (
    ("backprop, one stage", "concat", "backprop", ()),
    ("Sideways", "none", "sideways", short),
    ("Skip-Sideways, add", "add", "sideways", short),
    ("Skip-Sideways, concat", "concat", "sideways", short),
    ("Skip-Sideways, concat, each layer a stage", "concat", "sideways", each),
    ("exact gradient of that pipeline", "concat", "", each),
  ):
    made = partition(chain(shortcut, depth, head="classes", output_dim=2), starts)
    if rule:
      params = taught(made, rule, loss, clip, steps, adam=False)
    else:
      start = jax.jit(made.init)(jax.random.key(0))
      params = tasks.piped(made, start, loss, clip, steps, 0)
    share = 100 * tasks.scored(made, params, clip, score, clips, LATE)
    rows.append([name, len(made.stages), share, share / 50])
  note = f"{about(steps, depth)}; 1 pixel a tick."
  return common.Table("Left or right", ["rule", "stages", "right, %", "x chance"], rows, note)


def next_frames(steps: int, clips: int, depth: int, short: Sequence[int]) -> common.Table:
  def clip(key: Any) -> Any:
    frames, _ = sliding(key, TICKS + 1, 0.5)
    return frames[:-1], frames[1:]

  error = lambda answer, target: jnp.mean(jnp.square(answer - target))  # noqa: E731
  loss = lambda answer, target: error(answer["head"], target)  # noqa: E731
  frames, later = clip(jax.random.key(99))
  copying = float(error(frames, later))
  rows = [["copying the newest frame", None, copying, 1.0]]
  for name, shortcut in (
    ("Sideways", "none"),
    ("Skip-Sideways, add", "add"),
    ("Skip-Sideways, concat", "concat"),
  ):
    made = partition(chain(shortcut, depth, output_dim=1), short)
    params = taught(made, "sideways", loss, clip, steps, adam=True)
    mean = tasks.scored(made, params, clip, error, clips, LATE)
    rows.append([name, len(made.stages), mean, mean / copying])
  note = f"Mean squared error, variance 1. {about(steps, depth)}; half a pixel a tick."
  return common.Table("The next frame", ["rule", "stages", "error", "x copying"], rows, note)


def about(steps: int, depth: int) -> str:
  return f"{depth} layers and a head; {steps} steps on {ROWS} clips of {TICKS} ticks, {HEIGHT}×{WIDTH} pixels"


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"steps": 800, "clips": 10})
  machine = common.machine()
  steps, clips = (1, 1) if options.tiny else (options.steps, options.clips)
  depth, short, each = (1, (), ()) if options.tiny else (DEPTH, SHORT, EACH)
  tables = [directions(steps, clips, depth, short, each), next_frames(steps, clips, depth, short)]
  common.publish("depth_parallel_sideways", options, tables, machine)


if __name__ == "__main__":
  main()
