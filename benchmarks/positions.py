"""Do latents with positions follow points without any training? Beside classical trackers.

  python benchmarks/positions.py
  python benchmarks/positions.py --path=MY.mp4 --markdown=docs/tracking.md
  python benchmarks/positions.py --weights=runs/synthetic_tiny_positions

The tracks are positions of latents of a model with random parameters, which fixed rules move: "started
at the query", or "nearest of the grid" at a constant offset. Scenes, scores and sizes are those of
`benchmarks/tracking.py`. With --path, also clips of a window that moves over images of that video, as
over photographs in `benchmarks/photographs.py`: real textures, with exact tracks. With --weights, a run
or file, also its latents. The last table is prediction of the same scenes: the latents beside copying and
extrapolation, and the control that gives each latent the position of another.
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
  """Returns the two ways to follow points by the latents of each model."""
  ways = {"started at the query": False, "nearest of the grid": True}
  return {
    f"{name}, {way}": method_of(functools.partial(LatentTracker, *found, from_grid=grid))
    for name, found in known.items()
    for way, grid in ways.items()
  }


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
  latents: Latents, frames: np.ndarray, ahead: tuple[int, ...], *, shuffled: bool = False
) -> dict[int, float]:
  """Returns mean decibels of predictions from the ticks `SOURCES`, by displacement.

  Args:
    latents: The model.
    frames: Clips, `[T, B, H, W, 3]`.
    ahead: Displacements.
    shuffled: Give each latent the position of another.
  """
  model, params = latents
  seen = {"pixels": frames, IS_FIRST: np.zeros(frames.shape[:2], bool)}
  states, _ = model.observe(params, model.initial_state(params, frames.shape[1]), seen)
  found: dict[int, list[float]] = {d: [] for d in ahead}
  for source in SOURCES:
    state = jax.tree.map(lambda x, at=source: x[at], states)
    if shuffled:
      order = np.random.default_rng(0).permutation(state.latents.position.shape[1])
      moved = state.latents.position[:, order]
      state = state._replace(latents=state.latents._replace(position=moved))
    images = np.asarray(model.predict(params, state, ahead)["pixels"])
    for i, d in enumerate(ahead):
      if source + d < len(frames):
        error = np.mean(np.square(images[:, i] - frames[source + d] / 255.0), axis=(1, 2, 3))
        found[d] += list(-10 * np.log10(error))
  return {d: float(np.mean(x)) for d, x in found.items()}


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
    rows[f"{name}, positions shuffled"] = latent_errors(latents, frames, ahead, shuffled=True)
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
  if options.path:
    each = {"moved images": moved_images(options.path, num, ticks, points)}
    title = f"Positions of latents over {ticks} ticks on moved images of a video"
    tables.append(table_of(title, methods, each, points))
  if options.predicted and not options.tiny:
    tables.append(prediction_table(known, options.predicted, ticks=40))
  common.publish("positions", options, tables, about)


if __name__ == "__main__":
  main()
