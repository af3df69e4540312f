"""Segmentation of objects over time: SAVi's slots, latents with positions, and methods without learning.

  python benchmarks/object_masks.py
  python benchmarks/object_masks.py --minutes=2.5 --seeds=3 --markdown=docs/results.md

Trains `--models` (configs `savi:<variant>`) for so many minutes of CPU time each and seed, on windows of
the stream of their config, which repeat, mirrored at random. Scenes of the scores are held out. FG-ARI is
that of a whole clip, so that an object has to keep its number; J is DAVIS's, from the mask of the first
frame: a segment has the label that it covers most there. Methods with a cue know the mask or its boxes; of the
others only J does. MooG's segments are the latents with the most attention in each cell of its decoder.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import common
import jax
import numpy as np
import optax
from jaxtyping import PyTree
from probes import Scene, scenes

import perceiver_stream
from perceiver_stream import training
from perceiver_stream.evaluation import scoring
from perceiver_stream.evaluation.datasets import MaskClip
from perceiver_stream.evaluation.metrics.rand_index import foreground_ari
from perceiver_stream.evaluation.optical_flow import dis_flow, pixel_grid
from perceiver_stream.evaluation.probes import watching
from perceiver_stream.models.base import Model
from perceiver_stream.models.latent_positions import positions
from perceiver_stream.training.parts import make_parts
from perceiver_stream.types import IS_FIRST, valid_key
from perceiver_stream.utils.opencv import opencv

LEVELS = ("easy", "hard")
SIDE, CACHED = 64, 150  # windows of training that are kept
MOVES_PX, LEAST_PX = 0.5, 12  # of a component of the flow: its motion against the median; its area

# From frames and the mask of the first to the number of the segment of each pixel, `[T, H, W]`.
Segments = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Method(NamedTuple):
  """A method; one with a cue knows the first mask, and its segments are numbered like the objects."""

  segments: Segments
  cued: bool


# --- SAVi


class Trainer:
  """One compiled update for all seeds of a variant."""

  def __init__(self, variant: str, tiny: bool):
    parts = make_parts(training.load_config(f"savi:{'nano' if tiny else variant}"))
    self.objective, self.observation = parts.objective, parts.observation
    self.cached = list(itertools.islice(parts.windows, 2 if tiny else CACHED))
    rate = optax.linear_schedule(0.0, 1e-3, 50)
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99))
    self._update = jax.jit(self._step)

  def _step(self, params: PyTree, moments: PyTree, window: Any) -> tuple[PyTree, PyTree, Any]:
    state = self.objective.initial_state(params, window[IS_FIRST].shape[1])
    (loss, _), grads = self.objective.loss_and_grad(params, state, window)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes counts with rates
      change, moments = self.rule.update(grads, moments, params)
    return optax.apply_updates(params, change), moments, loss

  def windows(self, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields windows of the stream in random order, mirrored at random."""
    rng, names = np.random.default_rng(seed), set(self.objective.model.modalities)
    while True:
      window = self.cached[rng.integers(len(self.cached))]
      flips = tuple(axis for axis in (2, 3) if rng.random() < 0.5)
      kept = {*names, *map(valid_key, names), IS_FIRST} & set(window)
      yield {n: mirrored(n, window[n], flips) if n in names else window[n] for n in kept}

  def train(self, seed: int, minutes: float) -> tuple[Model, PyTree, int]:
    """Returns the model, its parameters after so much CPU time, and the number of updates."""
    params = self.objective.init_params(jax.random.key(seed), self.observation)
    moments, began, number, mean = self.rule.init(params), time.process_time(), 0, 0.0
    for window in self.windows(seed):
      params, moments, loss = self._update(params, moments, window)
      if not number:  # compiled
        began = time.process_time()
      number, mean = number + 1, mean + 0.02 * (float(loss) - mean)
      if number % 200 == 0:
        print(f"seed {seed}, update {number}, loss {mean:.4f}", flush=True)
      if time.process_time() - began > 60 * minutes:
        break
    return self.objective.model, params, number


def mirrored(name: str, values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
  """Returns arrays `[T, B, H, W, ...]` mirrored along rows (2) and columns (3), and flow with them."""
  values = np.flip(values, axes)
  if name == "flow":
    values = values * np.array([-1 if 3 in axes else 1, -1 if 2 in axes else 1], values.dtype)
  return values


def slot_segments(model: Model, params: PyTree) -> Segments:
  """Returns the slots with the largest share in each pixel; slot i starts at the box of object i."""
  (target,) = (n for n, m in model.modalities.items() if m.config.use_output)
  ahead = model.displacements[:1]

  def segments(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    ticks = len(frames)
    observed = {"pixels": frames[:, None], IS_FIRST: (np.arange(ticks) == 0)[:, None]}
    if "segmentation" in model.modalities:
      observed["segmentation"] = np.broadcast_to(first, (ticks, 1, *first.shape))
      observed[valid_key("segmentation")] = observed[IS_FIRST]
    states, _ = model.observe(params, model.initial_state(params, 1), observed)
    flat = jax.tree.map(lambda x: x[:, 0], states)
    return np.asarray(model.predict(params, flat, ahead)[f"{target}_slots"][:, 0]).argmax(axis=-1)

  return segments


# --- other latents


def nearest_latents(model: Model, params: PyTree) -> Segments:
  """Returns the label, in the first mask, of the nearest visible latent that lives since then."""

  def segments(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    observed = {"pixels": frames[:, None], IS_FIRST: (np.arange(len(frames)) == 0)[:, None]}
    states, _ = model.observe(params, model.initial_state(params, 1), observed)
    known = positions(states)
    size = np.array(first.shape[::-1])
    where = known.position[:, 0] * size - 0.5
    column, row = np.clip(np.round(where[0]), 0, size - 1).astype(int).T
    labels, pixels = first[row, column], pixel_grid(*first.shape).reshape(-1, 2)
    found = []
    for tick, at in enumerate(where):
      alive = known.visible[tick, 0] & (known.age[tick, 0] > tick) & np.isfinite(at).all(axis=-1)
      away = np.square(pixels[:, None] - at[alive]).sum(axis=-1)
      found.append(labels[alive][away.argmin(axis=1)] if alive.any() else labels[:1] * 0)
    return np.stack([np.broadcast_to(x.reshape(-1), pixels.shape[:1]) for x in found]).reshape(
      -1, *first.shape
    )

  return segments


def attention_segments(model: Model, params: PyTree) -> Segments:
  """Returns the latents with the most attention of the decoder in each cell of 4 × 4 pixels."""

  def segments(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    grid = (first.shape[0] // 4, first.shape[1] // 4)
    owner = watching.watch(model, params, frames, grid).owns.argmax(axis=1)
    return owner.repeat(4, axis=1).repeat(4, axis=2)

  return segments


# --- without learning


def first_mask(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
  """Returns the first mask at all ticks."""
  return np.repeat(first[None], len(frames), axis=0)


def warped(before: np.ndarray, frame: np.ndarray, last: np.ndarray) -> np.ndarray:
  """Returns the numbers of the frame before, carried to `frame` by DIS flow; the nearest pixel's."""
  place = np.round(pixel_grid(*before.shape) + dis_flow(frame, last)).astype(int)
  column, row = np.moveaxis(np.clip(place, 0, np.array(before.shape[::-1]) - 1), -1, 0)
  return before[row, column]


def carried_mask(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
  """Returns the first mask, carried from frame to frame by flow."""
  found = [first]
  for last, frame in itertools.pairwise(frames):
    found.append(warped(found[-1], frame, last))
  return np.stack(found)


def flow_components(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
  """Returns connected parts that move against the frame's median; numbers are carried by flow."""
  found, fresh = [], 1
  for tick, frame in enumerate(frames):
    pair = (frame, frames[tick + 1]) if tick + 1 < len(frames) else (frame, frames[tick - 1])
    flow = dis_flow(*pair)
    moves = np.linalg.norm(flow - np.median(flow, axis=(0, 1)), axis=-1) > MOVES_PX
    count, parts = opencv().connectedComponents(moves.astype(np.uint8))
    before = warped(found[-1], frame, frames[tick - 1]) if found else np.zeros_like(parts)
    ids = np.zeros_like(parts)
    for part in range(1, count):
      here = parts == part
      if here.sum() < LEAST_PX:
        continue
      known = np.bincount(before[here], minlength=1)
      known[0] = 0
      old = int(known.argmax()) if known.any() else 0
      ids[here] = old or fresh
      fresh += not old
    found.append(ids)
  return np.stack(found)


# --- scores


def labelled(segments: np.ndarray, first: np.ndarray) -> np.ndarray:
  """Returns segments under the labels that each covers most in the first frame; 0 if it is not there."""
  table = np.zeros((segments.max() + 1, first.max() + 1), int)
  np.add.at(table, (segments[0], first), 1)
  return np.where(table.any(axis=1), table.argmax(axis=1), 0)[segments]


def scores(method: Method, found: list[Scene]) -> tuple[float, float, float]:
  """Returns FG-ARI and J in percent, and CPU milliseconds a frame."""
  method.segments(found[0].frames, found[0].masks[0])  # compile
  began = time.process_time()
  each = [method.segments(s.frames, s.masks[0]) for s in found]
  spent = 1000 * (time.process_time() - began) / sum(len(s.frames) for s in found)
  ari = np.nanmean(
    [foreground_ari(s.masks[None], x[None])[0] for s, x in zip(found, each, strict=True)]
  )
  named = [x if method.cued else labelled(x, s.masks[0]) for s, x in zip(found, each, strict=True)]
  answers = iter([x.astype(np.int32) for x in named])
  clips = [MaskClip(s.frames, s.masks.astype(np.int32), "") for s in found]
  j = scoring.masks(lambda frames, first: next(answers), clips)["J"]
  return 100 * float(ari), 100 * j, spent


def others(tiny: bool) -> dict[str, Method]:
  """Returns the methods that are not trained here."""
  found = {
    "static first mask": Method(first_mask, True),
    "first mask carried by DIS": Method(carried_mask, True),
    "components of DIS flow": Method(flow_components, False),
  }
  if tiny:
    return found
  latents = perceiver_stream.load("stream_perceiver/tiny_positions")
  moog = perceiver_stream.load("moog/tiny_world")
  return found | {
    "latents with positions, nearest": Method(nearest_latents(*latents), True),
    "moog/tiny_world, attention": Method(attention_segments(*moog), False),
  }


Numbers = dict[str, dict[str, list[tuple[float, float, float]]]]


def table(numbers: Numbers, note: str) -> common.Table:
  """Returns the table of all methods and levels."""
  columns = ["segments", *(f"{level} {what}" for level in LEVELS for what in ("FG-ARI", "J"))]
  rows = []
  for name, by_level in numbers.items():
    row: list[Any] = [name]
    for level in LEVELS:
      row += [common.spread([s[i] for s in by_level[level]]) for i in range(2)]
    row.append(float(np.mean([s[2] for x in by_level.values() for s in x])))
    rows.append([*row, row[-1] / rows[0][-2] if rows else 1.0])
  return common.Table("Objects over time", [*columns, "CPU ms a frame", "x static"], rows, note)


def main(argv: list[str] | None = None) -> None:
  more = {
    "models": "tiny,tiny_unconditional",
    "minutes": 2.5,
    "seeds": 3,
    "scenes": 12,
    "ticks": 24,
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, tiny = common.machine(), options.tiny
  seeds, minutes, count, ticks = (
    (1, 1e-4, 1, 4) if tiny else (options.seeds, options.minutes, options.scenes, options.ticks)
  )
  side = 8 if tiny else SIDE
  found = {level: list(scenes(level, (side, side), count, ticks)) for level in LEVELS}
  numbers: Numbers = {
    name: {level: [scores(method, found[level])] for level in LEVELS}
    for name, method in others(tiny).items()
  }
  updates: list[int] = []
  variants = options.models.split(",")
  trainers = {variant: Trainer(variant, tiny) for variant in variants[: 1 if tiny else None]}
  for seed in range(seeds):
    for variant, trainer in trainers.items():
      model, params, number = trainer.train(seed, minutes)
      updates.append(number)
      method = Method(slot_segments(model, params), "segmentation" in model.modalities)
      for level in LEVELS:
        rows = numbers.setdefault(f"savi/{variant}", {}).setdefault(level, [])
        rows.append(scores(method, found[level]))
        print(variant, seed, level, rows[-1], flush=True)
    note = (
      f"In %. {count} scenes a level of {ticks} ticks; SAVi: mean (least to largest) of {seed + 1} seeds, "
      f"{min(updates)} to {max(updates)} updates in {minutes:g} CPU minutes each."
    )
    common.publish("object_masks", options, [table(numbers, note)], about)


if __name__ == "__main__":
  main()
