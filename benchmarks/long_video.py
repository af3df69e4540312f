"""LongViViT in miniature: captions of two events far apart, from a part of the tubelets.

  python benchmarks/long_video.py
  python benchmarks/long_video.py --steps=600 --seeds=5 --markdown=docs/results.md

Clips of `streams.events`. R@1 is the share of captions that retrieve their own clip among 64, and the
reverse, over galleries of held-out clips: every second caption of a gallery is another one reversed, so that
events without order give 50 % at best. `MiB` is the temporary memory of a training step by the compiler.
`Short clips` are tuned on long ones from an encoder of 16 frames.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import common
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from perceiver_stream.evaluation.probes.features import recall_at
from perceiver_stream.models import longvivit
from perceiver_stream.models.longvivit.variants import nano, tiny
from perceiver_stream.streams import events

GALLERY = 64
SHORT = 16  # frames
PATCHES = {"time": (16, 8, 8), "space": (8, 16, 16)}  # coarse tubelets


class Data(NamedTuple):
  """Clips `[N, T, H, W, 3]` uint8 and captions `[N, 3]`."""

  clips: np.ndarray
  captions: np.ndarray


def recordings(config: events.Config, numbers: Sequence[int]) -> Data:
  """Returns some recordings of a stream."""
  ticks, found = range(config.ticks_per_recording), []
  for number in numbers:
    one = events.Events(config, 0, number)
    read = [one.read() for _ in ticks]
    found.append((np.stack([tick["pixels"] for tick in read]), read[0]["caption"]))
  return Data(*map(np.stack, zip(*found, strict=True)))


def galleries(config: events.Config, number: int, size: int) -> Data:
  """Returns galleries of clips with different captions, each with its reverse."""
  pairs = list(itertools.combinations(range(config.num_colours), 2))[: size // 2]
  wanted = [pair for a, b in pairs for pair in ((a, b), (b, a))]
  found: dict[tuple[int, ...], list[int]] = {pair: [] for pair in wanted}
  for recording in itertools.count():
    colours = tuple(events.Events(config, 0, recording).colours.tolist())
    if len(found.get(colours, range(number))) < number:
      found[colours].append(recording)
    if all(len(each) == number for each in found.values()):
      break
  return recordings(config, [found[pair][i] for i in range(number) for pair in wanted])


def without_order(captions: np.ndarray) -> np.ndarray:
  """Returns captions with their words sorted."""
  return np.sort(captions, axis=1)


def shuffled(clips: np.ndarray, frames: int, seed: int) -> np.ndarray:
  """Returns clips whose runs of `frames` frames are in random order, another one in each clip."""
  rng, runs = np.random.default_rng(seed), clips.shape[1] // frames
  parts = clips.reshape(len(clips), runs, frames, *clips.shape[2:])
  order = rng.permuted(np.tile(np.arange(runs), (len(clips), 1)), axis=1)
  return np.take_along_axis(parts, order[:, :, None, None, None, None], axis=1).reshape(clips.shape)


class Batches:
  """Random batches in which every second caption is the one before it, reversed.

  Otherwise a batch seldom has two captions that differ in order alone, and order is learned late.
  """

  def __init__(self, data: Data, rows: int, seed: int):
    self.data, self.rows, self.rng = data, rows, np.random.default_rng(seed)
    self.of: dict[tuple[int, ...], list[int]] = {}
    for number, caption in enumerate(data.captions.tolist()):
      self.of.setdefault(tuple(caption), []).append(number)
    self.paired = [c for c in self.of if c < c[::-1] and c[::-1] in self.of]

  def draw(self) -> Data:
    """Returns a batch of captions and their reverses, none of them twice if there are enough."""
    size, pairs = self.rows // 2, len(self.paired)
    chosen = self.rng.choice(pairs, size, replace=pairs < size)
    captions = [c for i in chosen for c in (self.paired[i], self.paired[i][::-1])]
    rows = np.array([self.rng.choice(self.of[c]) for c in captions])
    return Data(self.data.clips[rows], self.data.captions[rows])


class Trainer:
  """One compiled update for all seeds of a config and a kind of tuning."""

  def __init__(self, config: longvivit.Config, steps: int, rows: int, kind: str = "all"):
    self.config, self.steps, self.rows, self.kind = config, steps, rows, kind
    self.dual = longvivit.dual_encoder(config)
    rate = optax.warmup_cosine_decay_schedule(0.0, 5e-3, steps // 10, max(steps, 2), 3e-5)
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4))
    self._program: common.Program | None = None

  def init(self, seed: int) -> PyTree:
    """Returns the parameters of both towers."""
    c = self.config
    return self.dual.encoder.init(
      jax.random.key(seed), jnp.zeros((1, c.num_frames, c.height, c.width, 3))
    )[0]

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the trained and the frozen parameters."""
    return longvivit.split_params(params, self.kind, self.config, num_last=1)

  def _update(self, trained, frozen, moments, clips, words, key):
    def loss(trained):
      params = hk.data_structures.merge(trained, frozen)
      return self.dual.loss(params, clips.astype(np.float32) / 255, words, key)

    value, grads = jax.value_and_grad(loss)(trained)
    with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
      change, moments = self.rule.update(grads, moments, trained)
    return optax.apply_updates(trained, change), moments, value

  def program(self, *arguments: Any) -> common.Program:
    """Returns the compiled update."""
    if self._program is None:
      self._program = common.program(self._update, *arguments, donate=(0, 2))
    return self._program

  def train(
    self, data: Data, seed: int, params: PyTree | None = None, *, ordered: bool = True
  ) -> PyTree:
    """Returns the parameters after all updates; captions lose their order if not `ordered`."""
    trained, frozen = self.split(self.init(seed) if params is None else params)
    trained = jax.tree.map(np.array, trained)  # the update overwrites its argument
    moments, batches = self.rule.init(trained), Batches(data, self.rows, seed)
    for number in range(self.steps):
      clips, captions = batches.draw()
      captions = captions if ordered else without_order(captions)
      batch = clips, captions, jax.random.fold_in(jax.random.key(seed), number)
      update = self.program(trained, frozen, moments, *batch).call
      trained, moments, _ = update(trained, frozen, moments, *batch)
    return hk.data_structures.merge(trained, frozen)

  @property
  def megabytes(self) -> float:
    """Temporary memory of an update, MiB."""
    assert self._program is not None
    return self._program.temp_bytes / 2**20

  def recall(self, params: PyTree, data: Data, size: int, inference_masking: float = 0.0) -> float:
    """Returns the mean R@1 of text to video and video to text over the galleries, in percent."""
    config = dataclasses.replace(self.config, inference_masking=inference_masking)
    dual = longvivit.dual_encoder(config) if inference_masking else self.dual
    found = []
    for start in range(0, len(data.clips), size):
      clips = jnp.asarray(data.clips[start : start + size], jnp.float32) / 255
      key = jax.random.key(start) if inference_masking else None
      video = np.asarray(dual.video(params, clips, False, key))
      text = np.asarray(dual.text(params, jnp.asarray(data.captions[start : start + size])))
      pairs = np.eye(len(video))
      found += [recall_at(text, video, pairs, 1), recall_at(video, text, pairs, 1)]
    return 100 * float(np.mean(found))


class Row(NamedTuple):
  """A row of the table: its name, trainer, and variant of the data."""

  trainer: Trainer
  data: str = "long"


def main_rows(base: longvivit.Config, steps: int, rows: int) -> dict[str, Row]:
  """Returns the rows that are trained on long clips from the start."""
  replace = dataclasses.replace
  found = {}
  for attention in ("joint", "factorised"):
    for share in (0.0, 0.5, 0.75, 0.9):
      config = replace(base, attention=attention, masking=share)
      found[f"{attention}, {100 * share:.0f} % masked"] = Row(Trainer(config, steps, rows))
  frames = replace(base, attention="frames", masking=0.0)
  found["frames, mean"] = Row(Trainer(frames, steps, rows))
  masked = found["joint, 75 % masked"].trainer
  found["joint, 75 % masked, captions without order"] = Row(masked, "without order")
  for name, (t, h, w) in PATCHES.items():
    if base.num_frames % t == base.height % h == base.width % w == 0:
      size = {"patch_frames": t, "patch_height": h, "patch_width": w, "masking": 0.0}
      found[f"joint, coarse in {name}"] = Row(Trainer(replace(base, **size), steps, rows))
  return found


def tuned_rows(base: longvivit.Config, steps: int, rows: int) -> dict[str, Trainer]:
  """Returns the ways of tuning an encoder of short clips on long ones."""
  made = lambda kind, **fields: Trainer(  # noqa: E731
    dataclasses.replace(base, masking=0.75, **fields), steps, rows, kind
  )
  return {
    "all": made("all"),
    "last layer": made("last_layers"),
    "adapters": made("adapters", adapter_dim=base.dim // 4),
    "LoRA": made("lora", lora_rank=max(base.dim // 8, 1)),
    "temporal only": made("temporal", attention="factorised"),
  }


class Found(NamedTuple):
  """Results of a row over the seeds."""

  recalls: list[float]
  trained: int
  megabytes: float


def spread(values: Sequence[float]) -> str:
  """Returns the mean and the range over seeds."""
  low, mean, high = (float(f(values)) for f in (np.min, np.mean, np.max))
  return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ({low:.1f} to {high:.1f})"


def tables(found: dict[str, Found], size: int, note: str) -> common.Table:
  """Returns the table of all rows; memory is compared with the first."""
  first, rows = next(iter(found.values())).megabytes, []
  for name, f in found.items():
    memory = (f.megabytes, f.megabytes / first) if f.megabytes else (None, None)
    rows.append([name, spread(f.recalls), f.trained or None, *memory])
  rows.append(["chance", f"{100 / size:.1f}", None, None, None])
  columns = ["encoder", "R@1, %", "trained parameters", "MiB", "x first"]
  return common.Table(f"Retrieval among {size} long clips", columns, rows, note)


def count(params: PyTree) -> int:
  """Returns the number of parameters."""
  return sum(int(np.size(x)) for x in jax.tree.leaves(params))


def results(
  base: longvivit.Config,
  steps: int,
  rows: int,
  seeds: int,
  sizes: tuple[int, int, int],
  tiny_size: bool,
) -> Iterator[dict[str, Found]]:
  """Yields all results so far after each seed."""
  pool, gallery, number = sizes
  stream = {name: getattr(base, name) for name in ("height", "width")}
  long = base.num_frames
  shape = {"ticks_per_recording": long, "event_ticks": 3 * long // 16, "gap": 3 * long // 8}
  config = events.Config(seed=1, share=0.75, **stream, **shape)
  data = recordings(config, range(pool))
  held_out = galleries(dataclasses.replace(config, seed=2), number, gallery)
  short_frames = min(SHORT, long // 2)
  shape = {"ticks_per_recording": short_frames, "event_ticks": short_frames // 4, "gap": 0}
  short_data = recordings(events.Config(seed=3, share=0.75, **stream, **shape), range(pool))
  short = Trainer(dataclasses.replace(base, num_frames=short_frames, masking=0.0), steps, rows)
  mains, tuned = main_rows(base, steps, rows), tuned_rows(base, steps // 2, rows)
  if tiny_size:
    mains = {name: row for name, row in mains.items() if name.startswith("joint, 75")}
    tuned = {"adapters": tuned["adapters"]}
  found: dict[str, Found] = {}

  def add(name: str, recall: float, trainer: Trainer | None = None, params: PyTree = None) -> None:
    trained = count(trainer.split(params)[0]) if trainer else 0
    entry = found.setdefault(name, Found([], trained, trainer.megabytes if trainer else 0.0))
    entry.recalls.append(recall)
    print(f"{time.process_time():.0f} s, {name}: {entry.recalls}", flush=True)

  for seed in range(seeds):
    for name, (trainer, kind) in mains.items():
      ordered = kind != "without order"
      params = trainer.train(data, seed, ordered=ordered)
      test = held_out if ordered else held_out._replace(captions=without_order(held_out.captions))
      add(name, trainer.recall(params, test, gallery), trainer, params)
      if name == "joint, 75 % masked":
        mixed = held_out._replace(clips=shuffled(held_out.clips, base.patch_frames, seed))
        add(f"{name}, clips shuffled in time", trainer.recall(params, mixed, gallery))
        for share in (0.3, 0.75):
          recall = trainer.recall(params, held_out, gallery, share)
          add(f"{name}, {100 * share:.0f} % at inference too", recall)
    start = short.train(short_data, seed)
    for name, trainer in tuned.items():
      params = longvivit.inserted(start, trainer.init(seed))
      if name == "all":
        add("short clips, not tuned", trainer.recall(params, held_out, gallery))
      params = trainer.train(data, seed, params)
      add(f"short clips, tuned: {name}", trainer.recall(params, held_out, gallery), trainer, params)
    yield found


def main(argv: list[str] | None = None) -> None:
  more = {"steps": 300, "rows": 32, "seeds": 3, "pool": 768, "galleries": 2}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  small = options.tiny
  base = (
    nano(num_frames=8, text=dataclasses.replace(nano().text, vocabulary=10)) if small else tiny()
  )
  steps, rows, seeds = (2, 4, 1) if small else (options.steps, options.rows, options.seeds)
  sizes = (300, 4, 1) if small else (options.pool, GALLERY, options.galleries)
  for number, found in enumerate(results(base, steps, rows, seeds, sizes, small), 1):
    note = (
      f"Mean (least to largest) of {number} seeds; {steps} updates of {rows} clips of {base.num_frames} "
      f"frames of {base.height}×{base.width}, {base.grid} tubelets; half as many when tuned. Events without order "
      f"retrieve 50 % at most."
    )
    common.publish("long_video", options, [tables(found, sizes[1], note)], about)


if __name__ == "__main__":
  main()
