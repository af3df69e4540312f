"""Probes of latents without training, on held-out scenes of the synthetic world: binding and labels.

  python benchmarks/probes.py
  python benchmarks/probes.py --models=moog/tiny_world,runs/mine --level=hard --markdown=docs/results.md

Models are names of the zoo (with bundled weights, or untrained), files of weights, or folders of
runs. Binding: the latent with the most attention on an object (by its mask) or a point in its first
frame is compared with the track. Labels: the masks and points of the first frame are propagated
by the similarity of feature maps. `stream_perceiver/tiny_grid` is the grid-bound control: as many
parameters, but each latent reads only its own cell.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import common
import jax
import numpy as np

from perceiver_stream import inference, streams
from perceiver_stream.evaluation import scoring
from perceiver_stream.evaluation.datasets import MaskClip
from perceiver_stream.evaluation.datasets.base import JointClip
from perceiver_stream.evaluation.metrics import pck
from perceiver_stream.evaluation.probes import binding, propagation, watching

MODELS = "stream_perceiver/tiny_world,stream_perceiver/tiny_grid,moog/tiny_world,rvm/tiny"
TINY = "stream_perceiver/nano_grid,moog/nano"
SEED = 10**6  # of scenes that no config trains on
HOLD = 8  # ticks on the first frame, so that the state is warm


class Scene(NamedTuple):
  """A clip with its ground truth; points are (x, y) in [0, 1]."""

  frames: np.ndarray
  masks: np.ndarray
  tracks: np.ndarray
  visible: np.ndarray


class Contestant(NamedTuple):
  """A model and its name in the tables."""

  name: str
  model: Any
  params: Any


def scenes(level: str, size: tuple[int, int], count: int, ticks: int) -> Iterator[Scene]:
  """Yields scenes; objects that are not in the first frame count as background."""
  config = streams.synthetic.Config(
    height=size[0],
    width=size[1],
    level=level,
    seed=SEED,
    num_points=32,
    ticks_per_point=0,
    modalities=("pixels", "segmentation", "points", "points_visible"),
    max_ticks=ticks,
  )
  for row in streams.open_rows(config, count):
    kept = [np.stack([tick[name] for tick in list(row)]) for name in config.modalities]
    frames, masks, tracks, visible = kept
    masks = np.where(np.isin(masks, masks[0]), masks, 0)
    places = np.swapaxes(tracks, 0, 1).astype(np.float64) / [size[1], size[0]]
    yield Scene(frames, masks, places, visible.T)


def bound(kind: str, maps: np.ndarray, scene: Scene) -> binding.Binding:
  """Returns the binding of the objects or the points of a scene."""
  grid = (maps.shape[2], maps.shape[3])
  if kind == "objects":
    return binding.follow(maps, binding.objects(scene.masks, grid), max(3, len(maps) // 3))
  targets = binding.points(scene.tracks, scene.visible, grid)
  return binding.follow(maps, targets, max(3, len(maps) // 3))


def binding_row(
  who: str, by: str, kind: str, found: list, size: int, latent_diversity: float | None
) -> list[Any]:
  """Returns a row of the first table."""
  b = binding.join(found)
  mean = lambda x: float(np.nanmean(x)) if np.isfinite(x).any() else 0.0  # noqa: E731
  error = float(np.nanstd(b.correlation)) / max(1, np.isfinite(b.correlation).sum()) ** 0.5
  stability, elsewhere = mean(b.stability), mean(b.elsewhere)
  return [
    who,
    by,
    kind,
    len(b.stability),
    f"{mean(b.correlation):+.2f} ± {error:.2f}",
    f"{mean(b.random_correlation):+.2f}",
    stability,
    elsewhere,
    stability / elsewhere if elsewhere else None,
    size * mean(b.distance),
    size * mean(b.random_distance),
    latent_diversity,
  ]


BINDING = [
  "latents of",
  "by attention",
  "target",
  "targets",
  "correlation",
  "of a random latent",
  "stability",
  "elsewhere",
  "x elsewhere",
  "distance, px",
  "of a random latent, px",
  "diversity",
]


def binding_table(level: str, found: Sequence[Scene], models: Sequence[Contestant]) -> common.Table:
  """Returns the table of latents bound to objects and points."""
  size, ticks = found[0].frames.shape[2], len(found[0].frames)
  maps = {("a fixed position", "–"): [binding.static_maps(ticks, (16, 16))] * len(found)}
  latent_diversity: dict[str, float] = {}
  for name, model, params in models:
    seen = [watching.watch(model, params, s.frames, hold=HOLD) for s in found]
    maps[name, "read"] = [watched.reads for watched in seen]
    maps[name, "own"] = [watched.owns for watched in seen]
    latent_diversity[name] = float(
      np.mean([watching.latent_diversity(watched.latents) for watched in seen])
    )
  both = lambda kind, each: [bound(kind, m, s) for m, s in zip(each, found, strict=True)]  # noqa: E731
  rows = [
    binding_row(who, by, kind, both(kind, each), size, latent_diversity.get(who))
    for (who, by), each in maps.items()
    for kind in ("objects", "points")
  ]
  note = (
    f"{len(found)} scenes of {size}×{size}, {ticks} ticks after {HOLD} on the first frame. "
    "Correlation: of the centroid of the latent's attention with the track, mean ± standard error; a "
    "fixed position has 0. Stability: share of later ticks at which the latent still has the most "
    "attention there; elsewhere: the same share on the other targets (a latent that leads "
    "everywhere tracks nothing). Diversity: the variance between latents as a share of their "
    "mean square; 0 is one vector for all."
  )
  return common.Table(f"Binding, {level}", BINDING, rows, note)


def label_row(name: str, features: Any, found: Sequence[Scene]) -> list[Any]:
  """Returns a row of the second table, without the last column; no features are static labels."""
  size = np.array(found[0].frames.shape[2:0:-1])
  masks = [MaskClip(s.frames, s.masks, str(i)) for i, s in enumerate(found)]
  starts = [np.flatnonzero(s.visible[:, 0]) for s in found]
  joints = [
    JointClip(s.frames, np.swapaxes(s.tracks[k] * size, 0, 1), s.visible[k].T, "")
    for s, k in zip(found, starts, strict=True)
  ]
  grid, best = None, None
  methods = scoring.static_masks, scoring.static_joints
  if features is not None:
    features = once(features)
    grid = features(found[0].frames).shape[1:3]
    settings = propagation.SETTINGS["synthetic"]._replace(radius=6 * grid[0] / 16)
    methods = (
      once(propagation.mask_method(features, settings)),
      propagation.joint_method(features, settings),
    )
    truths = iter(masks)
    ceiling = lambda *asked: propagation.ceiling(next(truths).masks, grid)  # noqa: E731
    best = 100 * scoring.masks(ceiling, masks)["J&F"]
  numbers = scoring.masks(methods[0], masks)
  classes = max(int(s.masks.max()) for s in found) + 1
  iou = scoring.classes(methods[0], masks, classes)["mIoU"]
  found_joints = [
    pck.pck([c.joints], [methods[1](c.frames, c.joints[0])[0]], [c.visible], 0.1) for c in joints
  ]
  shape = f"{grid[0]}×{grid[1]}" if grid else "–"
  return [
    name,
    shape,
    *(100 * numbers[k] for k in ("J&F", "J", "F")),
    100 * iou,
    np.nanmean(np.concatenate(found_joints)),
    best,
  ]


def once(method: Callable) -> Callable:
  """Returns a method that computes the features of each clip's frames only once."""
  known = {}

  def same(frames: np.ndarray, *asked: Any) -> Any:
    if id(frames) not in known:
      known[id(frames)] = method(frames, *asked)
    return known[id(frames)]

  return same


LABELS = ["by", "grid", "J&F", "J", "F", "mIoU", "PCK@0.1", "J&F through the grid", "x static"]


def label_table(level: str, found: Sequence[Scene], models: Sequence[Contestant]) -> common.Table:
  """Returns the table of label propagation by feature maps."""
  side = found[0].frames.shape[1]
  cells = min(16, side // 4)
  rows = [
    label_row("static labels", None, found),
    label_row("raw patches", watching.raw_patches((cells, cells)), found),
  ]
  for name, model, params in models:
    rows.append(label_row(name, watching.features(model, params, (cells, cells), hold=HOLD), found))
  rows = [[*map(_plain, row), row[2] / rows[0][2] if rows[0][2] else None] for row in rows]
  note = (
    f"{len(found)} scenes. Label propagation (20 frames of context, temperature 0.7, 7 best, radius 6/16 of the image), "
    "in percent. Latents without a position are decoded to a grid, weighted by their attention in each "
    "cell; compare with the score of the true masks through the same grid."
  )
  return common.Table(f"Label propagation, {level}", LABELS, rows, note)


def _plain(value: Any) -> Any:
  return round(float(value), 4) if isinstance(value, float | np.floating) else value


def contestants(names: Sequence[str]) -> list[Contestant]:
  """Returns the models and their names."""
  found = []
  for name in names:
    loaded = inference.load(name)
    size = sum(x.size for x in jax.tree.leaves(loaded.params))
    found.append(Contestant(f"{loaded.about}, {size / 1e6:.2f} M", loaded.model, loaded.params))
  return found


def main(argv: list[str] | None = None) -> None:
  more = {"models": "", "level": "easy,medium,hard", "scenes": 6, "ticks": 24}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  names = (options.models or (TINY if options.tiny else MODELS)).split(",")
  count, ticks = (1, 6) if options.tiny else (options.scenes, options.ticks)
  levels = ["easy"] if options.tiny else options.level.split(",")
  models = contestants([name for name in names if name])
  tables = []
  for level in levels:
    sizes = {m.model.modalities["pixels"].spec.shape[:2] for m in models}
    for size in sorted(sizes):
      same = [m for m in models if m.model.modalities["pixels"].spec.shape[:2] == size]
      found = list(scenes(level, size, count, ticks))
      title = level if len(sizes) == 1 else f"{level}, {size[0]}×{size[1]}"
      tables += [
        binding_table(title, found, same),
        label_table(title, found[: -(-count // 2)], same),
      ]
  common.publish("probes", options, tables, about)


if __name__ == "__main__":
  main()
