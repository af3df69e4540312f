"""Points followed by latents with positions, untrained and trained, beside classical trackers.

  python benchmarks/positions.py
  python benchmarks/positions.py --path=MY.mp4 --markdown=docs/tracking.md
  python benchmarks/positions.py --weights=stream_perceiver/tiny_positions --photographs=8

The tracks are positions of latents of a model with random parameters, which fixed rules move: "started
at the query", or "nearest of the grid" at a constant offset. Scenes, scores and sizes are those of
`benchmarks/tracking.py`. With --path, also clips of a window that moves over images of that video, as
over photographs in `benchmarks/photographs.py` (--photographs): real textures, with exact tracks. With
--weights, a name, run or file, also its latents, and a control: its weights in random order. The last
table is prediction of the same scenes: the latents beside copying and extrapolation, and two controls: each
latent has the position of another, or all have the same position and no velocity.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import common
import jax
import numpy as np
import photographs
from tracking import LEVELS, SIDE, held_out, table_of

from perceiver_stream import streams
from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.baselines import NAMES, FrameBaselines
from perceiver_stream.inference import model_loading
from perceiver_stream.inference.latent_tracking import LatentTracker, untrained_model
from perceiver_stream.inference.tracking_methods import method_of
from perceiver_stream.models.base import Model
from perceiver_stream.streams import probe, video
from perceiver_stream.types import IS_FIRST

CLASSICAL = ("static", "lk_gray", "dis_template")
SPEEDS = {"slow": 0.5, "fast": 1.5}  # of windows over photographs
SOURCES = (8, 14, 20)  # ticks from which the future is predicted
APART = 50  # pictures of a video between two that clips are made of


class Latents(NamedTuple):
  """A model whose latents have positions, and parameters."""

  model: Model
  params: Any


def models(name: str, weights: str = "") -> dict[str, Latents]:
  """Returns a model of the zoo, untrained, and that of a run or file of weights.

  Raises:
    ValueError: Its latents have no positions.
  """
  found = untrained_model(name)
  if found is None:
    raise ValueError(f"{name}: its latents have no positions; use stream_perceiver/tiny_positions.")
  trained = {weights: Latents(*model_loading.load(weights)[:2])} if weights else {}
  return {f"{name}, untrained": Latents(*found)} | trained


def latent_methods(known: Mapping[str, Latents]) -> dict[str, clips.Method]:
  """Returns the two ways to follow points by the latents of each model, and a control."""
  ways = {"started at the query": False, "nearest of the grid": True}
  methods = {
    f"{name}, {way}": method_of(functools.partial(LatentTracker, *found, from_grid=grid))
    for name, found in known.items()
    for way, grid in ways.items()
  }
  if len(known) > 1:
    name, found = list(known.items())[-1]
    wrong = found._replace(params=permuted(found.params))
    methods[f"{name}, weights permuted"] = method_of(functools.partial(LatentTracker, *wrong))
  return methods


def permuted(params: Any) -> Any:
  """Returns parameters with the entries of each array in random order: the same statistics."""
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: rng.permuted(np.asarray(x).ravel()).reshape(x.shape), params)


def baseline_errors(frames: np.ndarray, ahead: tuple[int, ...]) -> dict[str, dict[int, Any]]:
  """Returns decibels of simple predictions from the ticks `SOURCES`, by name and displacement."""
  found: dict[str, dict[int, list[float]]] = {name: {d: [] for d in ahead} for name in NAMES}
  for clip in np.swapaxes(frames, 0, 1):
    baselines = FrameBaselines(ahead, *clip.shape[1:3])
    for tick, frame in enumerate(clip):
      for d, errors in baselines.score(frame, is_first=tick == 0).items():
        for name in NAMES if tick - d in SOURCES else ():
          found[name][d].append(-10 * np.log10(errors[name]))
  return {name: {d: np.mean(x) for d, x in by.items()} for name, by in found.items()}


def latent_errors(
  latents: Latents, frames: np.ndarray, ahead: tuple[int, ...], control: str = ""
) -> dict[int, float]:
  """Returns mean decibels of predictions from the ticks `SOURCES`, by displacement.

  Args:
    latents: The model.
    frames: Clips, `[T, B, H, W, 3]`.
    ahead: Displacements.
    control: "shuffled" gives each latent the position of another; "removed" gives all the same
      position and no velocity.
  """
  model, params = latents
  seen = {"pixels": frames, IS_FIRST: np.zeros(frames.shape[:2], bool)}
  states, _ = model.observe(params, model.initial_state(params, frames.shape[1]), seen)
  found: dict[int, list[float]] = {d: [] for d in ahead}
  for source in SOURCES:
    state = jax.tree.map(lambda x, at=source: x[at], states)
    if control:
      state = state._replace(latents=controlled(state.latents, control))
    images = np.asarray(model.predict(params, state, ahead)["pixels"])
    for i, d in enumerate(ahead):
      if source + d < len(frames):
        error = np.mean(np.square(images[:, i] - frames[source + d] / 255.0), axis=(1, 2, 3))
        found[d] += list(-10 * np.log10(error))
  return {d: float(np.mean(x)) for d, x in found.items()}


def controlled(latents: Any, control: str) -> Any:
  """Returns the state of the core with positions shuffled or removed."""
  if control == "removed":
    nothing = np.zeros_like(latents.position)
    return latents._replace(position=nothing, velocity=nothing)
  order = np.random.default_rng(0).permutation(latents.position.shape[1])
  return latents._replace(position=latents.position[:, order])


def prediction_table(known: Mapping[str, Latents], num: int, ticks: int) -> common.Table:
  """Returns decibels of predicted images by level and displacement."""
  some = next(iter(known.values())).model
  side, ahead = some.modalities["pixels"].spec.shape[0], some.displacements
  each = {}
  for level in LEVELS:
    found = held_out(level, num, ticks, side, 4)
    frames = np.stack([clip.frames for clip in found], axis=1)
    rows: dict[str, Mapping[int, Any]] = dict(baseline_errors(frames, ahead))
    for name, latents in known.items():
      rows[name] = latent_errors(latents, frames, ahead)
    name, latents = list(known.items())[-1]
    for control in ("shuffled", "removed"):
      rows[f"{name}, positions {control}"] = latent_errors(latents, frames, ahead, control)
    each[level] = rows
  columns = ["prediction", *(f"{level} {d}" for level in LEVELS for d in ahead)]
  lines = [
    [name, *(float(each[level][name][d]) for level in LEVELS for d in ahead)]
    for name in next(iter(each.values()))
  ]
  note = f"PSNR in dB by displacement in ticks; {num} clips a level, from ticks {SOURCES}."
  return common.Table("Prediction by latents with positions", columns, lines, note)


def moved_images(path: str, num: int, ticks: int, points: int) -> list[clips.Clip]:
  """Returns clips of a window that moves over images of a video, `APART` ticks from each other.

  Raises:
    ValueError: The video has fewer than `num` such images.
  """
  about = probe.probe(path)
  config = video.picture_by_picture(
    path,
    0.0,
    height=about.height,
    width=about.width,
    crop="squash",
    max_ticks=APART * (num - 1) + 1,
  )
  images = [t["pixels"] for i, t in enumerate(streams.open_rows(config)[0]) if i % APART == 0]
  if len(images) < num:
    raise ValueError(f"{path} has {len(images)} images {APART} apart; use --clips={len(images)}.")
  return [photographs.moved(im, ticks, SIDE, points, seed=i) for i, im in enumerate(images[:num])]


def main(argv: list[str] | None = None) -> None:
  more: dict[str, Any] = {
    "model": "stream_perceiver/tiny_positions",
    "clips": 16,
    "ticks": 24,
    "long": 200,
    "weights": "",
    "predicted": 8,
    "photographs": 0,
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  num, ticks, longer, points = (
    (1, 4, 6, 4) if options.tiny else (options.clips, options.ticks, options.long, 64)
  )
  model = "stream_perceiver/nano_positions" if options.tiny else options.model
  known = models(model, options.weights)
  methods = {name: clips.BASELINES[name] for name in CLASSICAL} | latent_methods(known)
  tables = []
  for length, count in ((ticks, num), (longer, max(1, num // 4) if num else 0)):
    if length and count:
      each = {level: held_out(level, count, length, SIDE, points) for level in LEVELS}
      tables.append(table_of(f"Positions of latents over {length} ticks", methods, each, points))
  for length, count in ((ticks, options.photographs), (longer, options.photographs // 4)):
    if length and count:
      each = {n: photographs.held_out(count, length, SIDE, points, x) for n, x in SPEEDS.items()}
      title = f"Positions of latents over {length} ticks on moved photographs"
      tables.append(table_of(title, methods, each, points))
  if options.path:
    each = {"moved images": moved_images(options.path, num, ticks, points)}
    title = f"Positions of latents over {ticks} ticks on moved images of a video"
    tables.append(table_of(title, methods, each, points))
  if options.predicted and not options.tiny:
    tables.append(prediction_table(known, options.predicted, ticks=40))
  common.publish("positions", options, tables, about)


if __name__ == "__main__":
  main()
