"""Visual odometry and depth on held-out rooms: baselines without learning, and trained runs.

  python benchmarks/odometry.py
  python benchmarks/odometry.py --models=runs/odometry_0,runs/odometry_1 --markdown=docs/results.md

Rooms of `streams.rooms` at 64 x 64 that no config trains on, one path of 120 ticks in each. The
essential matrix gets the true length of every step, and its threshold is swept; PnP and direct
alignment get the true depth; constant velocity gets the true motion of the tick before. `--models` are
folders of runs, comma separated; they get images only, and those whose names differ in a last number
only are seeds of one method. `--untrained` are configs of which the random start is scored.
The last table replaces a fifth of the target before alignment, at 96 x 128.
"""

import pathlib
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream import streams, training, zoo
from perceiver_stream.evaluation import visual_odometry as vo
from perceiver_stream.evaluation.metrics import depth, drift, trajectory
from perceiver_stream.evaluation.metrics.base import nanmean
from perceiver_stream.inference.odometry import CameraTrack, Odometry, as_odometry, load_odometer
from perceiver_stream.nn.geometry import alignment
from perceiver_stream.streams import rooms
from perceiver_stream.training import objectives
from perceiver_stream.training.objectives.readout_base import ReadoutLearner
from perceiver_stream.training.parts import fit
from perceiver_stream.zoo.loading import blank_tick

SEED = 2 * 10**6  # of rooms that no config trains on and nothing was tuned on
SIDE = 64
ESTIMATORS = ("l2", "huber", "geman_mcclure", "tukey")
WITHOUT_PROGRAMS = ("identity", "constant velocity", "PnP, true depth")
PATCH = 0.2  # of the target that is replaced


class Path(NamedTuple):
  """One recording of a room: images, depth in metres, camera-to-world poses, intrinsics."""

  frames: np.ndarray
  depth: np.ndarray
  poses: np.ndarray
  intrinsics: np.ndarray


Method = Callable[[Path], np.ndarray]  # motions [T, 4, 4], the first unused


def held_out(num: int, ticks: int, height: int, width: int) -> list[Path]:
  """Returns a path in each of so many rooms."""
  config = rooms.Config(
    height=height,
    width=width,
    modalities=("pixels", "depth", "camera"),
    ticks_per_recording=ticks,
    max_ticks=num * ticks,
    seed=SEED,
  )
  found = list(streams.open_rows(config)[0])
  stacked = {n: np.stack([tick[n] for tick in found]) for n in ("pixels", "depth", "camera")}
  camera = rooms.intrinsics(config)
  return [
    Path(
      stacked["pixels"][i : i + ticks],
      stacked["depth"][i : i + ticks],
      vo.as_poses(stacked["camera"][i : i + ticks]),
      camera,
    )
    for i in range(0, num * ticks, ticks)
  ]


# --- methods --------------------------------------------------------------------------------------


def at_rest(path: Path) -> np.ndarray:
  """Returns no motion."""
  return np.tile(np.eye(4), (len(path.frames), 1, 1))


def constant_velocity(path: Path) -> np.ndarray:
  """Returns the true motion of the tick before, again."""
  motions = vo.motions_of(path.poses)
  return np.concatenate([motions[:1], motions[:-1]])


def by_tracks(estimate: Callable[[Path, int, vo.Tracks], np.ndarray]) -> Method:
  """Returns a method that estimates each motion from tracks into the frame before."""

  def motions(path: Path) -> np.ndarray:
    found = [np.eye(4)]
    for i in range(1, len(path.frames)):
      found.append(estimate(path, i, vo.tracks(path.frames[i], path.frames[i - 1])))
    return np.stack(found)

  return motions


def by_essential(method: str, threshold_px: float) -> Method:
  """Returns the essential matrix with the true length of every step."""

  def estimate(path: Path, i: int, pairs: vo.Tracks) -> np.ndarray:
    length = float(np.linalg.norm(path.poses[i, :3, 3] - path.poses[i - 1, :3, 3]))
    return vo.essential(pairs, path.intrinsics, threshold_px, length, method)

  return by_tracks(estimate)


def by_alignment(estimator: str) -> Method:
  """Returns direct alignment with the true depth, all pairs of a path at once."""
  align = jax.jit(lambda view: alignment.direct(view, estimator=estimator))

  def motions(path: Path) -> np.ndarray:
    found = align(view_of(path.frames[1:], path.frames[:-1], path.depth[1:], path.intrinsics))
    return np.concatenate([np.eye(4)[None], np.asarray(found, np.float64)])

  return motions


class ByModel:
  """A trained read-out, which gets images only; it tracks every path once.

  Attributes:
    tracks: Of the paths so far, by the address of their frames.
  """

  def __init__(self, odometry: Odometry):
    self._odometry = odometry
    self.tracks: dict[int, CameraTrack] = {}

  def __call__(self, path: Path) -> np.ndarray:
    """Returns the motions."""
    self.tracks[id(path.frames)] = self._odometry(path.frames)
    return self.tracks[id(path.frames)].motions

  def depth(self, path: Path) -> np.ndarray:
    """Returns the depth of a path that it has tracked."""
    return self.tracks[id(path.frames)].depth


def view_of(
  target: np.ndarray, source: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray
) -> alignment.View:
  """Returns pairs as the layers take them."""
  first, second = (jnp.asarray(x, jnp.float32) / 255 for x in (target, source))
  cameras = jnp.tile(jnp.asarray(intrinsics, jnp.float32), (len(target), 1))
  return alignment.View(first, second, jnp.asarray(depth), cameras)


def baselines(thresholds: tuple[float, ...], estimators: tuple[str, ...]) -> dict[str, Method]:
  """Returns the methods without learning, by name."""
  methods: dict[str, Method] = {"identity": at_rest, "constant velocity": constant_velocity}
  for method in ("RANSAC", "USAC_MAGSAC"):
    for threshold in thresholds:
      methods[f"essential, {method}, {threshold} px"] = by_essential(method, threshold)
  methods["PnP, true depth"] = by_tracks(
    lambda path, i, pairs: vo.pnp(pairs, path.depth[i], path.intrinsics)
  )
  for estimator in estimators:
    methods[f"direct alignment, true depth, {estimator}"] = by_alignment(estimator)
  return methods


# --- tables ---------------------------------------------------------------------------------------

COLUMNS = [
  "method",
  "ATE, m (Sim3)",
  "ATE, m (SE3, scale of 10 ticks)",
  "rotation, rad",
  "translation, of the step",
  "rotation of 5 ticks, rad",
  "translation of 5 ticks, m",
  "drift",
  "drift, rad/m",
  "CPU ms a tick",
  "x ATE of identity",
]


def numbers_of(path: Path, motions: np.ndarray) -> dict[str, float]:
  """Returns errors of a path; translations of single steps after scaling the whole path."""
  estimate = vo.chained(motions)
  scaled = trajectory.rescaled(path.poses, estimate, None)
  metres, radians = trajectory.relative_error(path.poses, scaled)
  metres_5, radians_5 = trajectory.relative_error(path.poses, scaled, 5)
  steps = np.linalg.norm(np.diff(path.poses[:, :3, 3], axis=0), axis=-1)
  found = trajectory.scores(path.poses, estimate)
  drifts = drift.scores(path.poses, scaled)
  return {
    "ate": found["ate_sim3"],
    "ate_start": found["ate_start"],
    "radians": float(radians.mean()),
    "share": float(np.mean(metres) / np.mean(steps)),
    "radians_5": float(radians_5.mean()),
    "metres_5": float(metres_5.mean()),
    **drifts,
  }


def mean_of(values: list[float]) -> float | None:
  """Returns the mean of the numbers that are known; None if none is."""
  mean = float(nanmean(np.asarray(values)))
  return None if np.isnan(mean) else mean


def odometry(methods: dict[str, Method], paths: list[Path]) -> common.Table:
  """Returns the errors of all methods, means over the paths."""
  rows: list[list[Any]] = []
  for name, method in methods.items():
    method(Path(*(x[:3] if x.ndim > 1 else x for x in paths[0])))  # imports
    compiled = isinstance(method, ByModel)  # a chunk is padded
    if not compiled and name not in WITHOUT_PROGRAMS and not name.startswith("essential"):
      method(paths[0])  # compiles
    began = time.process_time()
    motions = [method(path) for path in paths]
    spent = time.process_time() - began
    each = [numbers_of(path, found) for path, found in zip(paths, motions, strict=True)]
    means = {key: mean_of([numbers[key] for numbers in each]) for key in each[0]}
    ticks = sum(len(path.frames) for path in paths)
    rows.append([name, *means.values(), 1000 * spent / ticks])
  rows = [[*row, row[1] / rows[0][1]] for row in rows]
  note = (
    f"{len(paths)} rooms, {len(paths[0].frames)} ticks each, {paths[0].frames.shape[1]}×"
    f"{paths[0].frames.shape[2]}. Essential matrices get the true length of each step, PnP and "
    "direct alignment the true depth. Translations of steps and drift are after scaling the whole "
    "path to its true length. Of the thresholds of essential matrices the best is shown. Runs whose "
    "names differ in a last number are seeds: mean (least–most)."
  )
  return common.Table("Visual odometry in held-out rooms", COLUMNS, rows, note)


def over_seeds(table: common.Table) -> common.Table:
  """Returns the table with one row for all seeds of a method: mean, least and most of each column.

  Args:
    table: Methods whose names differ in a last number only (`..._0`, `..._1`) are seeds of one.
  """
  groups: dict[str, list[list[Any]]] = {}
  for name, *numbers in table.rows:
    seed = re.fullmatch(r"(.+)_\d+", name)
    groups.setdefault(seed[1].replace("_", " ") if seed else name, []).append(numbers)
  rows = [
    [name, *(map(with_range, zip(*seeds, strict=True)) if len(seeds) > 1 else seeds[0])]
    for name, seeds in groups.items()
  ]
  return table._replace(rows=rows)


def with_range(seeds: tuple[float | None, ...]) -> str | None:
  """Returns the mean of seeds, and least and most in brackets; None if one is not known."""
  known = [x for x in seeds if x is not None]
  return common.spread(known, common.shown, "–") if len(known) == len(seeds) else None


def with_best_thresholds(table: common.Table) -> common.Table:
  """Returns the table with the essential matrix of least ATE only, of each kind of RANSAC."""
  best: dict[str, float] = {}
  for name, ate, *_ in table.rows:
    if kind := kind_of(name):
      best[kind] = min(np.inf if ate is None else ate, best.get(kind, np.inf))
  rows = [row for row in table.rows if row[1] == best.get(kind_of(row[0]), row[1])]
  return table._replace(rows=rows)


def kind_of(name: str) -> str:
  """Returns the name of a method without its threshold; "" if it has none."""
  found = re.fullmatch(r"(essential, .+), \S+ px", name)
  return found[1] if found else ""


def untrained(name: str) -> Odometry:
  """Returns the random start of an experiment of `ego_motion`, such as "rooms:tiny_odometry"."""
  config = training.load_config(name)
  model = zoo.build(fit(config.model, streams.specs(config.stream)))
  objective: Any = objectives.make(model, config.objective)
  start = objective.init_params(jax.random.key(config.seed), blank_tick(model))
  own, readout = objective.learner.split(start)
  return as_odometry(ReadoutLearner(model, own, objective.learner.readout), readout)


def depths(models: dict[str, ByModel], paths: list[Path], others: int) -> common.Table:
  """Returns AbsRel and delta1 after median scaling of each image, beside predictors without input.

  Args:
    models: They have tracked the paths.
    paths: Held out.
    others: Rooms of the mean depth.
  """
  train = streams.open_rows(
    rooms.Config(
      height=SIDE, width=SIDE, modalities=("depth",), ticks_per_recording=1, max_ticks=others
    )
  )[0]
  mean = np.mean([tick["depth"] for tick in train], axis=0)
  predictors: dict[str, Callable[[Path], np.ndarray]] = {
    "constant": lambda path: np.ones_like(path.depth),
    f"mean depth of {others} other rooms": lambda path: np.tile(mean, (len(path.depth), 1, 1)),
  }
  predictors |= {name: model.depth for name, model in models.items()}
  table: list[list[Any]] = []
  for name, predictor in predictors.items():
    each = [depth.scores(p.depth, predictor(p), alignment="median")[0] for p in paths]
    means = np.nanmean(np.concatenate(each), axis=0)
    table.append([name, float(means[0]), float(means[depth.KEYS.index("delta1")])])
  table = [[*row, row[1] / table[1][1]] for row in table]
  columns = ["predictor", "AbsRel", "δ < 1.25", "x AbsRel of the mean depth"]
  note = "Each image is scaled by the median of its true depth, every predictor alike."
  return common.Table("Depth in held-out rooms", columns, table, note)


def replaced(paths: list[Path], num: int, estimators: tuple[str, ...]) -> common.Table:
  """Returns errors of direct alignment before and after a fifth of the target is replaced."""
  rng = np.random.default_rng(0)
  picked = [(path, i) for path in paths for i in range(1, len(path.frames), 5)][:num]
  target, source, metres, truth = (
    np.stack(x)
    for x in zip(
      *(
        (p.frames[i], p.frames[i - 1], p.depth[i], np.linalg.inv(p.poses[i - 1]) @ p.poses[i])
        for p, i in picked
      ),
      strict=True,
    )
  )
  spoilt = target.copy()
  height, width = target.shape[1:3]
  rows_px, columns_px = round(PATCH**0.5 * height), round(PATCH**0.5 * width)
  for image in spoilt:
    y, x = rng.integers(height - rows_px), rng.integers(width - columns_px)
    image[y : y + rows_px, x : x + columns_px] = rng.integers(0, 256, (rows_px, columns_px, 3))
  table: list[list[Any]] = []
  for name in estimators:
    align = jax.jit(lambda view, name=name: alignment.direct(view, estimator=name))
    row: list[Any] = [name]
    for images in (target, spoilt):
      found = np.asarray(align(view_of(images, source, metres, paths[0].intrinsics)))
      off, radians = trajectory.motion_error(
        np.tile(np.eye(4), (len(truth), 1, 1)), truth, np.tile(np.eye(4), (len(truth), 1, 1)), found
      )
      length = np.linalg.norm(truth[:, :3, 3], axis=-1)
      row += [float(np.median(off / length)), float(np.median(radians))]
    table.append(row)
  table = [[*row, row[3] / max(table[0][3], 1e-12)] for row in table]
  columns = ["estimator", "translation, of the step", "rotation, rad"]
  columns += [f"{columns[1]}, replaced", f"{columns[2]}, replaced", "x l2, replaced"]
  note = f"Medians of {len(truth)} pairs, {height}×{width}; {PATCH:.0%} of the target is noise."
  return common.Table("Direct alignment through the layers, true depth", columns, table, note)


def main(argv: list[str] | None = None) -> None:
  more = {"models": "", "untrained": "", "rooms": 6, "ticks": 120, "pairs": 24}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  num, ticks = (1, 6) if options.tiny else (options.rooms, options.ticks)
  pairs, side = (2, (32, 32)) if options.tiny else (options.pairs, (96, 128))
  thresholds, estimators = (
    ((0.5,), ("tukey",)) if options.tiny else (vo.THRESHOLDS_PX, ("l2", "tukey"))
  )
  paths = held_out(num, ticks, SIDE, SIDE)
  odometers = {
    pathlib.Path(name).name: load_odometer(name) for name in options.models.split(",") if name
  }
  for name in filter(None, options.untrained.split(",")):
    odometers[f"{name}, untrained"] = untrained(name)
  models = {name: ByModel(odometer) for name, odometer in odometers.items()}
  methods = baselines(thresholds, estimators) | models
  motion = with_best_thresholds(odometry(methods, paths))
  tables = [over_seeds(motion), over_seeds(depths(models, paths, 4 if options.tiny else 200))]
  compared = estimators if options.tiny else ESTIMATORS
  tables.append(replaced(held_out(num, min(ticks, 25), *side), pairs, compared))
  common.publish("odometry", options, tables, about)


if __name__ == "__main__":
  main()
