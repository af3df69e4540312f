"""Miniature of V-JEPA: moving squares, frozen features against untrained, collapse provoked on purpose.

  python benchmarks/features.py
  python benchmarks/features.py --steps=1500 --seeds=5 --markdown=docs/results.md

Clips of 8 frames show one square on noise that moves in one of 8 directions; colour and place say
nothing about the class. For each seed an encoder is trained with its released recipe in small, and one
without stop-gradient, the student as its own teacher. Frozen features (means over space of each step
in time) are read by ridge regression and by 20 nearest neighbours; the numbers of
`nn.losses.collapse` are those of the last batch, before the norm of the targets.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

from perceiver_stream import zoo
from perceiver_stream.evaluation.probes import features
from perceiver_stream.models.vjepa import objective as vjepa
from perceiver_stream.training import objectives
from perceiver_stream.zoo import clip_encoders

ROWS, CLASSES = 16, 8
KINDS = ("untrained", "V-JEPA", "no stop-gradient")


def clips(
  rng: np.random.Generator, count: int, frames: int, side: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns clips `[N, T, H, W, 3]`, uint8, and the direction of each, 0 to 7."""
  labels = rng.integers(0, CLASSES, count)
  angle = labels * 2 * np.pi / CLASSES
  speed = side / 16
  start = rng.uniform(0, side, (count, 2))
  colour = rng.integers(100, 255, (count, 1, 1, 1, 3))
  places = np.arange(side)
  moved = (
    start[:, None]
    + speed
    * np.arange(frames)[None, :, None]
    * np.stack([np.sin(angle), np.cos(angle)], axis=-1)[:, None]
  )
  inside = [
    (places - moved[..., axis, None]) % side < side / 4 for axis in range(2)
  ]  # it leaves at one side and enters at the other
  square = inside[0][..., :, None] & inside[1][..., None, :]
  noise = rng.integers(0, 60, (count, frames, side, side, 3))
  return np.where(square[..., None], colour, noise).astype(np.uint8), labels


class Learner(NamedTuple):
  """An objective with its compiled step and optimiser."""

  objective: Any
  step: Callable[..., tuple]
  optimizer: optax.GradientTransformation


def learner(kind: str, steps: int, config: Any) -> Learner:
  """Returns what trains a kind of encoder; one program serves all seeds."""
  stop = kind != "no stop-gradient"
  sizes = vjepa.Config(window=config.num_frames, momentum=0.99, stop_gradient=stop)
  made = objectives.make(zoo.build(config), sizes)
  optimizer = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 30, max(steps, 31)))

  @jax.jit
  def step(params, moments, state, window, key):
    (_, aux), grads = made.loss_and_grad(params, state, window, key)
    with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
      updates, moments = optimizer.update(grads, moments, params)
    return optax.apply_updates(params, updates), moments, aux.next_state, aux.scores

  return Learner(made, step, optimizer)


def train(kind: str, how: Learner, seed: int, steps: int) -> tuple[Any, dict[str, float]]:
  """Returns the encoder's parameters and the collapse numbers of the last window."""
  rng, sizes = np.random.default_rng(seed), how.objective.model.config

  def window() -> dict[str, np.ndarray]:
    return {"pixels": np.moveaxis(clips(rng, ROWS, sizes.num_frames, sizes.height)[0], 0, 1)}

  params = how.objective.init_params(jax.random.key(seed), {"pixels": window()["pixels"][0]})
  state, moments = how.objective.initial_state(params, ROWS), how.optimizer.init(params)
  found: dict[str, float] = {}
  for number in range(1 if kind == KINDS[0] else steps):
    key = jax.random.fold_in(jax.random.key(seed), number)
    after, moments, state, scores = how.step(params, moments, state, window(), key)
    found = {name.split("@")[0]: float(np.mean(v.model)) for name, v in scores.items()}
    params = params if kind == KINDS[0] else after
  return vjepa.split(params)[0], found


def encoded(params: Any, config: Any, frames: np.ndarray) -> np.ndarray:
  """Returns means over space of the features of each step in time, `[N, T' D]`."""
  same = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
  encoder = clip_encoders.build(
    clip_encoders.family(clip_encoders.config("vjepa/nano")).config(**same)
  )
  renamed = {name.replace("vjepa_stream", "vjepa", 1): x for name, x in params.items()}
  apply = lambda x: encoder.apply(renamed, {}, jnp.asarray(x, jnp.float32) / 255)[0]  # noqa: E731
  found = [np.asarray(apply(part).features.mean(axis=(2, 3))) for part in np.array_split(frames, 8)]
  return np.concatenate(found).reshape(len(frames), -1)


def results(
  seeds: int, steps: int, config: Any, count: int
) -> Iterator[tuple[str, dict[str, float]]]:
  """Yields the numbers of each kind and seed."""
  how = {kind: learner(kind, steps, config) for kind in KINDS[1:]}
  how[KINDS[0]] = how[KINDS[1]]
  for seed in range(seeds):
    rng = np.random.default_rng(10**6 + seed)
    frames, labels = clips(rng, 2 * count, config.num_frames, config.height)
    for kind in KINDS:
      params, found = train(kind, how[kind], seed, steps)
      x = encoded(params, config, frames)
      for name, probe in (
        ("linear", features.linear_probe),
        ("neighbours", features.nearest_neighbours),
      ):
        guess = probe(x[:count], labels[:count], x[count:])
        found[name] = 100 * features.accuracy(guess, labels[count:])
      print(kind, seed, {k: round(v, 3) for k, v in found.items()}, flush=True)
      yield kind, found


def table(found: Sequence[tuple[str, dict[str, float]]], seeds: int, steps: int) -> common.Table:
  """Returns means and standard deviations over seeds."""
  columns = (
    "linear",
    "neighbours",
    "collapse_std",
    "collapse_rank",
    "collapse_cosine",
    "collapse_alarm",
  )
  rows: list[list[Any]] = []
  base = np.mean([numbers["linear"] for kind, numbers in found if kind == KINDS[0]])
  for kind in KINDS:
    values = [[numbers[c] for c in columns] for k, numbers in found if k == kind]
    mean, spread = np.mean(values, axis=0), np.std(values, axis=0)
    cells = [f"{m:.3g} ± {s:.2g}" for m, s in zip(mean[:-1], spread[:-1], strict=True)]
    rows.append(
      [
        kind,
        *cells,
        f"{int(sum(v[-1] for v in values))} of {seeds}",
        float(mean[0] / base) if base else None,
      ]
    )
  title = f"V-JEPA in small, {steps} steps"
  names = ["", "linear, %", "20 neighbours, %", "std·√d", "rank", "cosine", "alarms", "x untrained"]
  note = (
    f"Mean ± standard deviation over {seeds} seeds (0 to {seeds - 1}). Direction of motion, chance "
    f"{100 / CLASSES:.3g} %; batches of {ROWS} clips."
  )
  return common.Table(title, names, rows, note)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(
    argv, __doc__ or "", globals(), {"steps": 300, "seeds": 3, "count": 400}
  )
  about = common.machine()
  config = zoo.config("vjepa_stream/nano" if options.tiny else "vjepa_stream/tiny")
  steps, seeds = (2, 1) if options.tiny else (options.steps, options.seeds)
  found = list(results(seeds, steps, config, 40 if options.tiny else options.count))
  common.publish("features", options, [table(found, seeds, steps)], about)


if __name__ == "__main__":
  main()
