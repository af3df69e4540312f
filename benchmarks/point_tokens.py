"""Trains a miniature of TAPNext on the synthetic world, and scores trackers with slots on it.

  python benchmarks/point_tokens.py --minutes=20 --weights=tapnext.safetensors
  python benchmarks/point_tokens.py --minutes=0 --models=tapnext.safetensors --markdown=docs/tracking.md

Training takes so many minutes of CPU time, on scenes of the levels in turns; scores are those of
`benchmarks/tracking.py`, on its held-out scenes, beside the trackers without learning and the latents
with positions. `state` is the recurrent state of 64 points. Random weights of a tracker of the zoo
(tapir/tiny) show time and size only.
"""

import functools
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
from positions import CLASSICAL, latent_methods
from tracking import LEVELS, SIDE, held_out, table_of

from perceiver_stream import streams
from perceiver_stream.evaluation import clips
from perceiver_stream.inference.slot_tracking import SlotTracker
from perceiver_stream.inference.tracking_methods import method_of
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.models.tapnext.loss import tracking_loss
from perceiver_stream.zoo import point_trackers

SLOTS, ROWS, TICKS = 16, 4, 8
Batch = tuple[np.ndarray, TrackCommands, np.ndarray, np.ndarray]


def scenes(side: int, level: str, seed: int) -> Iterator[clips.Clip]:
  """Yields clips of ever new scenes."""
  config = streams.synthetic.Config(
    height=side,
    width=side,
    level=level,
    audio_rate_hz=0,
    ticks_per_recording=TICKS,
    ticks_per_point=0,
    num_points=SLOTS,
    modalities=("pixels", "points", "points_visible", "points_id"),
    seed=seed,
  )
  return clips.from_ticks(streams.open_rows(config)[0], TICKS)


def batches(side: int, levels: tuple[str, ...], seed: int) -> Iterator[Batch]:
  """Yields frames `[T, B, H, W, 3]`, commands, targets (row, column) and visibility."""
  rows = [scenes(side, levels[i % len(levels)], seed + 1000 * i) for i in range(ROWS)]
  for each in zip(*rows, strict=True):
    yield jax.tree.map(lambda *x: np.stack(x, axis=1), *(row_of(clip, side) for clip in each))


def row_of(clip: clips.Clip, side: int) -> Batch:
  """Returns one row of a batch; queries are where a point is first visible."""
  seen = ~clip.occluded.T
  tracks = np.moveaxis(clip.tracks, 0, 1)
  first = np.zeros_like(seen)
  first[np.argmax(seen, axis=0), np.arange(seen.shape[1])] = True
  first &= seen
  place = (tracks / side).astype(np.float32)
  frames, missing = clip.frames.astype(np.float32) / 255, SLOTS - seen.shape[1]
  pad = lambda x: np.pad(x, [(0, 0), (0, missing), *[(0, 0)] * (x.ndim - 2)])  # noqa: E731
  commands = TrackCommands(pad(first), pad(place), np.zeros((len(seen), SLOTS), bool))
  return frames, commands, pad(tracks[..., ::-1].astype(np.float32)), pad(seen)


def trained(config: Any, minutes: float, seed: int, levels: tuple[str, ...]) -> tuple[PyTree, int]:
  """Returns parameters after so many minutes of CPU time, and the number of updates."""
  tracker = point_trackers.build(config)
  params = tracker.init(jax.random.key(seed))

  def loss(frames, commands, targets, seen):
    net = tracker.network()
    heads, active, _ = net.follow(net.initial_state(ROWS, SLOTS), frames, commands)
    return tracking_loss(heads, targets, seen, active)

  function = hk.without_apply_rng(hk.transform(loss))
  rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=1e-2))
  rate = optax.scale_by_schedule(optax.linear_schedule(0.0, 1.0, 100))
  rule = optax.chain(rule, rate)

  @jax.jit
  def update(params: PyTree, state: PyTree, batch: Batch) -> tuple[PyTree, PyTree, jax.Array]:
    value, gradient = jax.value_and_grad(lambda p: function.apply(p, *batch))(params)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes counts with rates
      change, state = rule.update(gradient, state, params)
    return optax.apply_updates(params, change), state, value

  state, began, number = rule.init(params), time.process_time(), 0
  for batch in batches(tracker.height, levels, 10_000 + 100_000 * seed):
    if number and time.process_time() - began > 60 * minutes:
      break
    params, state, value = update(params, state, batch)
    number += 1
    if number % 50 == 0:
      print(f"update {number}, loss {float(value):.3f}", flush=True)
  return params, number


def slot_method(name: str) -> clips.Method:
  """Returns the method of a file, or of a tracker of the zoo with random weights."""
  if name in point_trackers.names():
    tracker = point_trackers.build(name)
    params = tracker.init(jax.random.key(0))
  else:
    tracker, params = point_trackers.load(name)
  return method_of(functools.partial(SlotTracker, tracker, params))


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


def main(argv: list[str] | None = None) -> None:
  more: dict[str, Any] = {
    "minutes": 20.0,
    "model": "tapnext/tiny",
    "levels": "easy",
    "seed": 0,
    "weights": "",
    "models": "",
    "latents": "stream_perceiver/tiny_positions",
    "states": "tapnext/tiny,tapnext/base,tapir/tiny,tapir/online_boots",
    "clips": 16,
    "ticks": 24,
    "long": 200,
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  tiny = options.tiny
  names = [name for name in options.models.split(",") if name]
  if options.minutes or tiny:
    config = point_trackers.config("tapnext/nano" if tiny else options.model)
    minutes = 1e-4 if tiny else options.minutes
    params, number = trained(config, minutes, options.seed, tuple(options.levels.split(",")))
    path = pathlib.Path(options.weights or f"{options.output}/tapnext.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    point_trackers.save(path, point_trackers.build(config), params)
    print(f"{path}: {number} updates")
    names.append(str(path))
  num, ticks, longer, points = (
    (1, 4, 0, 4) if tiny else (options.clips, options.ticks, options.long, 64)
  )
  methods = {name: clips.BASELINES[name] for name in CLASSICAL}
  if not tiny:
    methods |= latent_methods(options.latents)
  methods |= {pathlib.Path(name).stem: slot_method(name) for name in names}
  tables = []
  for length, count in ((ticks, num), (longer, max(1, num // 4))):
    if length:
      each = {level: held_out(level, count, length, SIDE, points) for level in LEVELS}
      tables.append(table_of(f"Trackers with slots over {length} ticks", methods, each, points))
  sizes = state_table(names if tiny else [*names, *options.states.split(",")])
  common.publish("point_tokens", options, [*tables, sizes], about)


if __name__ == "__main__":
  main()
