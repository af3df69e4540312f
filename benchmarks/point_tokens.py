"""Trains a miniature of TAPNext on the synthetic world, and scores trackers over time beside it.

  python benchmarks/point_tokens.py --minutes=5 --seeds=3 --markdown=docs/tracking.md
  python benchmarks/point_tokens.py --minutes=0 --models=tapnext.safetensors --end=2000

Training takes so many minutes of CPU time a seed, on scenes of the levels that repeat, mirrored, turned
and reversed in time at random; scores are on held-out scenes of `benchmarks/tracking.py`, forwards from
each query, beside the trackers without learning and the latents with positions. Random weights of a
tracker of the zoo (tapir/tiny) show time and size only.
"""

import functools
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import common
import haiku as hk
import jax
import numpy as np
import optax
from jaxtyping import PyTree
from tracking import SEED, SIDE, held_out

from perceiver_stream import streams
from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.metrics import tapvid
from perceiver_stream.evaluation.metrics.redetection import MIN_DURATIONS, redetection
from perceiver_stream.evaluation.trackers import TRACKERS
from perceiver_stream.evaluation.trackers_online import OnlineTracker
from perceiver_stream.inference.frame_chunks import CHUNK
from perceiver_stream.inference.latent_tracking import LatentTracker
from perceiver_stream.inference.model_loading import load
from perceiver_stream.inference.slot_tracking import SlotTracker
from perceiver_stream.inference.tracking import TrackerFactory
from perceiver_stream.inference.tracking_methods import method_of
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.models.point_trackers import PointTracker
from perceiver_stream.models.tapnext.loss import tracking_loss
from perceiver_stream.zoo import point_trackers
from perceiver_stream.zoo.loading import template

SLOTS, ROWS, TICKS, CACHED = 16, 4, 16, 200
HIDDEN, VISIBLE = 30, 8  # ticks for which a square is covered, and before and after it
CLASSICAL = ("static", "lk_gray", "lk_template", "dis_template")
Batch = tuple[np.ndarray, TrackCommands, np.ndarray, np.ndarray]


def scenes(side: int, level: str, seed: int, num: int) -> list[clips.Clip]:
  """Returns a clip of each of so many scenes."""
  config = streams.synthetic.Config(
    height=side,
    width=side,
    level=level,
    audio_rate_hz=0,
    ticks_per_recording=TICKS,
    ticks_per_point=0,
    num_points=SLOTS,
    max_ticks=num * TICKS,
    modalities=("pixels", "points", "points_visible", "points_id"),
    seed=seed,
  )
  return list(clips.from_ticks(streams.open_rows(config)[0], TICKS))


def batches(known: list[clips.Clip], table: int, seed: int) -> Iterator[Batch]:
  """Yields frames `[T, B, H, W, 3]`, commands, targets (row, column) of the table, and visibility."""
  rng = np.random.default_rng(seed)
  while True:
    each = [changed(known[i], rng) for i in rng.integers(len(known), size=ROWS)]
    yield jax.tree.map(lambda *x: np.stack(x, axis=1), *(row_of(clip, table) for clip in each))


def changed(clip: clips.Clip, rng: np.random.Generator) -> clips.Clip:
  """Returns a clip, mirrored, turned or reversed in time at random."""
  frames, tracks, occluded = clip.frames, clip.tracks, clip.occluded
  side = frames.shape[1]
  if rng.random() < 0.5:
    frames, tracks, occluded = frames[::-1], tracks[:, ::-1], occluded[:, ::-1]
  if rng.random() < 0.5:
    frames, tracks = frames.swapaxes(1, 2), tracks[..., ::-1]
  for axis in range(2):
    if rng.random() < 0.5:
      frames = np.flip(frames, 2 - axis)
      tracks = np.where(np.arange(2) == axis, side - tracks, tracks)
  return clip._replace(frames=frames, tracks=tracks, occluded=occluded)


def row_of(clip: clips.Clip, table: int) -> Batch:
  """Returns one row of a batch; queries are where a point is first visible."""
  side, visible = clip.frames.shape[1], ~clip.occluded.T
  tracks = np.moveaxis(clip.tracks, 0, 1) / side
  first = np.zeros_like(visible)
  first[np.argmax(visible, axis=0), np.arange(visible.shape[1])] = True
  first &= visible
  frames, missing = clip.frames.astype(np.float32) / 255, SLOTS - visible.shape[1]
  pad = lambda x: np.pad(x, [(0, 0), (0, missing), *[(0, 0)] * (x.ndim - 2)])  # noqa: E731
  commands = TrackCommands(
    pad(first), pad(tracks.astype(np.float32)), np.zeros((len(visible), SLOTS), bool)
  )
  return frames, commands, pad((table * tracks[..., ::-1]).astype(np.float32)), pad(visible)


class Trainer:
  """One compiled update for all seeds; the loss is the mean of those after each block and the norm."""

  def __init__(self, config: Any, levels: tuple[str, ...], rate: float, num: int):
    self.tracker = tracker = point_trackers.build(config)
    self.table = config.table[0]
    self.known = [
      c for i, x in enumerate(levels) for c in scenes(tracker.height, x, 10_000 + i, num)
    ]

    def loss(frames, commands, targets, visible):
      net: Any = tracker.network()
      tokens, active, _ = net.follow_layers(net.initial_state(ROWS, SLOTS), frames, commands)
      each = [tracking_loss(net.heads(x), targets, visible, active) for x in tokens]
      return sum(each) / len(each), each[-1]

    self._loss = hk.without_apply_rng(hk.transform(loss))
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-2))
    self._update = jax.jit(self._step)

  def _step(
    self, params: PyTree, state: PyTree, batch: Batch, factor: np.float32
  ) -> tuple[PyTree, PyTree, jax.Array]:
    function = lambda p: self._loss.apply(p, *batch)  # noqa: E731
    (_, last), gradient = jax.value_and_grad(function, has_aux=True)(params)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes counts with rates
      change, state = self.rule.update(gradient, state, params)
    change = jax.tree.map(lambda x: factor * x, change)
    return optax.apply_updates(params, change), state, last

  def train(self, minutes: float, seed: int) -> tuple[PyTree, int]:
    """Returns parameters after so many minutes of CPU time, and the number of updates."""
    params = self.tracker.init(jax.random.key(seed))
    state, began, number, mean = self.rule.init(params), 0.0, 0, 0.0
    for batch in batches(self.known, self.table, seed):
      spent = (time.process_time() - began) / (60 * minutes) if number else 0.0
      if number and spent > 1:
        break
      params, state, value = self._update(params, state, batch, schedule(spent))
      if not number:  # compiled
        began = time.process_time()
      number += 1
      mean += (float(value) - mean) * max(0.02, 1 / number)
      if number % 100 == 0:
        print(f"seed {seed}, update {number}, loss {mean:.3f}", flush=True)
    return params, number


def schedule(spent: float) -> np.float32:
  """Returns the factor of the learning rate when a share of the time is spent: warm-up, then a cosine."""
  return np.float32(min(1.0, 20 * spent + 0.01) * (0.55 + 0.45 * math.cos(math.pi * spent)))


def slot_tracker(name: str) -> TrackerFactory:
  """Returns the tracker of a file, or one of the zoo with random weights."""
  if name in point_trackers.names():
    tracker = point_trackers.build(name)
    return functools.partial(SlotTracker, tracker, tracker.init(jax.random.key(0)))
  return functools.partial(SlotTracker, *point_trackers.load(name))


def hidden_clips(num: int) -> list[clips.Clip]:
  """Returns scenes of `easy` of which a square in the middle is covered for `HIDDEN` ticks."""
  rng, found = np.random.default_rng(0), []
  for clip in held_out("easy", num, HIDDEN + 2 * VISIBLE, SIDE, 64):
    frames, occluded = clip.frames.copy(), clip.occluded.copy()
    some, square = slice(VISIBLE, VISIBLE + HIDDEN), slice(SIDE // 4, 3 * SIDE // 4)
    frames[some, square, square] = rng.integers(0, 256, (SIDE // 2, SIDE // 2, 3), np.uint8)
    inside = np.all((clip.tracks >= SIDE // 4) & (clip.tracks < 3 * SIDE // 4), axis=-1)
    occluded[:, some] |= inside[:, some]
    found.append(clips.Clip(frames, clip.tracks, occluded))
  return found


def found_again(method: clips.Method, known: list[clips.Clip]) -> float:
  """Returns AJ in percent from the reappearance on of points that were hidden for 16 ticks or more."""
  by_clip = []
  for clip in known:
    kept = ~clip.occluded[:, 0]
    queries = np.insert(clip.tracks[kept, 0, ::-1], 0, 0, axis=1)
    tracks, hidden = method(clip.frames, queries)
    scale = clips.RASTER / SIDE
    arrays = clip.tracks[kept], clip.occluded[kept], tracks, hidden
    scores = redetection(*(x[None] * scale if x.ndim == 3 else x[None] for x in arrays))
    by_clip.append(scores.by_duration[MIN_DURATIONS.index(16)])
  return 100 * float(np.nanmean(by_clip))


def long_ticks(ticks: int) -> list[dict[str, np.ndarray]]:
  """Returns one scene of `easy` with 16 points."""
  config = streams.synthetic.Config(
    height=SIDE,
    width=SIDE,
    audio_rate_hz=0,
    ticks_per_point=0,
    num_points=16,
    max_ticks=ticks,
    modalities=("pixels", "points", "points_visible"),
    seed=SEED,
  )
  return list(streams.open_rows(config)[0])


def drift(start: TrackerFactory, known: list[dict[str, np.ndarray]]) -> float:
  """Returns the mean error of visible points in the last 32 ticks over that in the 32 around tick 64."""
  kept = known[0]["points_visible"]
  first = known[0]["points"][kept, ::-1].astype(float)
  follow, errors = start(np.insert(first, 0, 0, axis=1)), []
  for at in range(0, len(known), CHUNK):
    chunk = known[at : at + CHUNK]
    found = follow(np.stack([t["pixels"] for t in chunk])).tracks
    away = np.linalg.norm(found - np.stack([t["points"][kept] for t in chunk], axis=1), axis=-1)
    errors.append(
      np.where(np.stack([t["points_visible"][kept] for t in chunk], axis=1), away, np.nan)
    )
  each = np.concatenate(errors, axis=1)
  middle = min(64, len(known) // 2)
  early = np.nanmean(each[:, max(0, middle - 16) : middle + 16])
  return float(np.nanmean(each[:, -32:]) / early)


def state_kib(start: TrackerFactory) -> float | None:
  """Returns the size of the state of 64 points; None for trackers without a model."""
  model = getattr(start, "args", (None,))[0]
  if isinstance(model, PointTracker):
    return point_trackers.state_bytes(model, 64) / 1024
  if not isinstance(model, Model):
    return None
  state = jax.eval_shape(model.initial_state, template(model))
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)) / 1024


Sets = list[list[clips.Clip]]


def numbers_of(
  start: TrackerFactory, sets: Sets, hidden: list[clips.Clip], known: list[dict[str, np.ndarray]]
) -> list[float]:
  """Returns AJ of each set, AJ after hidden ticks, drift, and CPU milliseconds a frame."""
  method = method_of(start)
  method(hidden[0].frames[:CHUNK], np.array([[0, 5.0, 5.0]]))  # compile one point
  method(sets[0][0].frames, tapvid.queries_first(sets[0][0].tracks, sets[0][0].occluded)[0])
  began = time.process_time()
  scores = [clips.score(method, each)["average_jaccard"] for each in sets]
  spent = 1000 * (time.process_time() - began) / sum(len(c.frames) for x in sets for c in x)
  found = [100 * tapvid.data_set_mean(x) for x in scores]
  return [*found, found_again(method, hidden), drift(start, known), spent]


def time_table(
  starts: dict[str, list[TrackerFactory]],
  num: int,
  ticks: int,
  longer: int,
  end: int,
  about: str = "",
) -> common.Table:
  """Returns accuracy over time, with time and state, of all trackers over their seeds."""
  hidden, known, rows = hidden_clips(num), long_ticks(end), []
  lengths = ((ticks, num), (longer, max(1, num // 4)))
  sets = [
    held_out(x, count, length, SIDE, 64) for length, count in lengths for x in ("easy", "hard")
  ]
  reference = 0.0
  for name, seeds in starts.items():
    *scores, spent = zip(*(numbers_of(x, sets, hidden, known) for x in seeds), strict=True)
    mean = float(np.mean(scores[0]))
    reference = reference or mean
    cells = [*map(common.spread, scores[:-1]), common.spread(scores[-1], ".2f")]
    rows.append([name, *cells, float(np.mean(spent)), state_kib(seeds[0]), mean / reference])
    print(rows[-1], flush=True)
  columns = ["tracker"]
  columns += [f"AJ {n}, {level}" for n in (ticks, longer) for level in ("easy", "hard")]
  columns += ["AJ after hidden", f"error at {end:,} over 64"]
  columns += ["CPU ms a frame", "state KiB", "x static"]
  note = (
    f"{num} clips of {ticks} ticks, a quarter of {longer}; 64 points. After hidden: AJ from the "
    f"reappearance of points that a square covered for up to {HIDDEN} ticks, at least 16. Errors "
    f"over time: 16 points of one scene, ratio of means over 32 ticks.{about}"
  )
  return common.Table("Trackers over time", columns, rows, note)


def state_table(names: list[str]) -> common.Table:
  """Returns the size of the recurrent state of 64 points, and its ratio to the first."""
  rows = []
  for name in names:
    known = name in point_trackers.names()
    tracker = point_trackers.build(name) if known else point_trackers.load(name).tracker
    size = point_trackers.state_bytes(tracker, 64) / 1024
    first = rows[0][1] if rows else size
    rows.append([pathlib.Path(name).stem if not known else name, size, size / first])
  return common.Table("State of trackers with 64 slots", ["tracker", "KiB", "x first"], rows, "")


def train_seeds(options: Any) -> tuple[list[str], str]:
  """Trains a tracker with each seed; returns their files, and a sentence about the updates."""
  tiny = options.tiny
  config = point_trackers.config("tapnext/nano" if tiny else options.model)
  minutes, paths, numbers = 1e-4 if tiny else options.minutes, [], []
  levels = tuple(options.levels.split(","))
  trainer = Trainer(config, levels, options.rate, ROWS if tiny else CACHED)
  for seed in range(1 if tiny else options.seeds):
    params, number = trainer.train(minutes, seed)
    path = pathlib.Path(options.output) / f"tapnext_{seed}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    point_trackers.save(path, trainer.tracker, params)
    print(f"{path}: {number} updates", flush=True)
    paths.append(str(path))
    numbers.append(number)
  about = (
    f" Trained here: mean (least to largest) of {len(paths)} seeds, {min(numbers)} to {max(numbers)} updates of "
    f"{ROWS} clips of {TICKS} ticks in {minutes:g} CPU minutes each."
  )
  return paths, about


def main(argv: list[str] | None = None) -> None:
  more: dict[str, Any] = {
    "minutes": 5.0,
    "model": "tapnext/tiny",
    "levels": "easy",
    "rate": 1e-3,
    "seeds": 1,
    "models": "",
    "latents": "stream_perceiver/tiny_positions",
    "states": "tapnext/tiny,tapnext/base,tapir/tiny,tapir/online_boots",
    "clips": 8,
    "ticks": 24,
    "long": 200,
    "end": 10_000,
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  machine, tiny = common.machine(), options.tiny
  names, trained, about = [name for name in options.models.split(",") if name], [], ""
  if options.minutes or tiny:
    trained, about = train_seeds(options)
  starts: dict[str, list[TrackerFactory]] = {
    name: [functools.partial(OnlineTracker, TRACKERS[name])] for name in CLASSICAL
  }
  if not tiny:
    starts["latents with positions"] = [
      functools.partial(LatentTracker, *load(options.latents)[:2])
    ]
  starts |= {pathlib.Path(name).stem: [slot_tracker(name)] for name in names}
  if trained:
    starts[f"{options.model}, trained here"] = [slot_tracker(path) for path in trained]
  num, ticks, longer, end = (
    (1, 4, 5, 16) if tiny else (options.clips, options.ticks, options.long, options.end)
  )
  tables = [time_table(starts, num, ticks, longer, end, about)]
  states = trained[:1] if tiny else [*names, *options.states.split(",")]
  common.publish("point_tokens", options, [*tables, state_table(states)], machine)


if __name__ == "__main__":
  main()
