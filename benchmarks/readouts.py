"""Read-outs of frozen states: depth, flow, objects, and boxes around them.

  python benchmarks/readouts.py --dense=DENSE.safetensors --boxes=BOXES.safetensors
  python benchmarks/readouts.py --dense=A.safetensors,B.safetensors --markdown=docs/results.md

Held-out scenes of the synthetic world, 64 x 64. Files are those of `scripts/export.py`, trained by
`configs/tracking.py:tiny_dense` and `:tiny_boxes`. Baselines use no input: the mean depth, zero flow
and the most common class (of these very scenes), and a box that does not move.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import common
import jax
import numpy as np

from perceiver_stream import streams, training
from perceiver_stream.evaluation import datasets, scoring
from perceiver_stream.evaluation.metrics import depth, flow, miou
from perceiver_stream.inference import pretrained
from perceiver_stream.inference.dense import Reading, as_reading
from perceiver_stream.inference.tracking_methods import as_box_method

LEVELS = ("easy", "medium", "hard")
SEED = 10**6  # of scenes that no config trains on
LABELS = ("depth", "flow_backward", "segmentation")
ROOT = pathlib.Path(__file__).parents[1]

Scenes = list[dict[str, np.ndarray]]


def held_out(level: str, num: int, ticks: int, side: int) -> Scenes:
  """Returns scenes: arrays `[T, ...]` by name."""
  config = streams.synthetic.Config(
    height=side,
    width=side,
    level=level,
    audio_rate_hz=0,
    ticks_per_recording=ticks,
    max_ticks=num * ticks,
    modalities=("pixels", *LABELS),
    seed=SEED,
  )
  seen = list(streams.open_rows(config)[0])
  each = (seen[at : at + ticks] for at in range(0, len(seen), ticks))
  return [{n: np.stack([t[n] for t in some]) for n in ("pixels", *LABELS)} for some in each]


def things(ids: np.ndarray) -> np.ndarray:
  """Returns 1 for objects and 0 for the background; ids have no other meaning."""
  return (ids != 0).astype(np.int32)


def unseeing(scenes: Scenes) -> Reading:
  """Returns a read-out with the same output for every frame, the best one for these scenes."""
  metres = np.mean([np.mean(s["depth"]) for s in scenes])
  commonest = np.mean([np.mean(things(s["segmentation"])) for s in scenes]) > 0.5

  def read(frames: np.ndarray) -> dict[str, np.ndarray]:
    shape = frames.shape[:3]
    return {
      "depth": np.full(shape, metres, np.float32),
      "flow_backward": np.zeros((*shape, 2), np.float32),
      "segmentation": np.full(shape, commonest, np.int32),
    }

  return read


def numbers(read: Reading, scenes: Scenes) -> list[float]:
  """Returns AbsRel, share within 1.25 (%), end-point error, outliers (%), mIoU and wrong pixels (%).

  The first tick of a scene is left out, because nothing has moved yet.
  """
  said = [read(scene["pixels"]) for scene in scenes]
  each = {
    n: tuple(np.concatenate([x[n][1:] for x in some]) for some in (scenes, said)) for n in LABELS
  }
  depths = np.nanmean(depth.scores(*each["depth"], depth_range=(1e-3, 100.0))[0], axis=0)
  moved = flow.scores(*each["flow_backward"])
  truth, classes = map(things, each["segmentation"])
  iou = miou.mean_iou(miou.confusion(truth, classes, 2))
  keys = depth.KEYS.index("abs_rel"), depth.KEYS.index("delta1")
  return [
    depths[keys[0]],
    100 * depths[keys[1]],
    moved["epe_all_pixels"],
    moved["fl_all_percent"],
    100 * iou,
    100 * float(np.mean(truth != classes)),
  ]


DENSE = ["level", "read by", "AbsRel", "δ1", "EPE, px", "Fl-all", "mIoU", "wrong pixels"]


def dense_table(
  readers: dict[str, Reading], levels: Sequence[str], num: int, ticks: int, side: int
) -> common.Table:
  """Returns the table of dense labels, level by level."""
  rows: list[list[Any]] = []
  for level in levels:
    scenes = held_out(level, num, ticks, side)
    beside = numbers(unseeing(scenes), scenes)
    every = {"without input": beside} | {n: numbers(r, scenes) for n, r in readers.items()}
    rows += [
      [level, name, *map(float, found), found[0] / beside[0]] for name, found in every.items()
    ]
  note = f"{num} scenes a level, {ticks} ticks. Depth in metres, without alignment; shares in %."
  return common.Table("Dense labels read out", [*DENSE, "x AbsRel without input"], rows, note)


def boxes_table(
  methods: dict[str, Callable[..., Any]], levels: Sequence[str], num: int, ticks: int, side: int
) -> common.Table:
  """Returns the table of tracked boxes."""
  each = {}
  for level in levels:
    scenes = held_out(level, num, ticks, side)
    seen = ({n: s[n][t] for n in s} for s in scenes for t in range(ticks))
    each[level] = list(datasets.boxes_from_ticks(seen, ticks))
  rows = []
  for name, method in ({"a static box": scoring.static_boxes} | methods).items():
    found = [100 * scoring.boxes(method, clips)["IoU"] for clips in each.values()]
    rows.append([name, *found, found[-1] / rows[0][len(levels)] if rows else 1.0])
  note = (
    f"{num} scenes a level, {ticks} ticks; mean IoU after the first frame with the object, in %."
  )
  return common.Table("Boxes tracked", ["by", *levels, f"x static, {levels[-1]}"], rows, note)


def untrained(what: str) -> tuple[Any, Any]:
  """Returns a nano model with a read-out, both with random weights."""
  config = training.load_config(f"{ROOT}/configs/tracking.py:nano_{what}")
  parts = training.make_parts(config)
  learner = parts.objective.learner
  return learner, learner.init_params(jax.random.key(0), parts.observation)


def main(argv: list[str] | None = None) -> None:
  more = {"dense": "", "boxes": "", "clips": 16, "ticks": 24}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  levels = LEVELS[:1] if options.tiny else LEVELS
  num, ticks, side = (1, 4, 16) if options.tiny else (options.clips, options.ticks, 64)
  dense = {n: pretrained.load_reader(n) for n in options.dense.split(",") if n}
  boxes = {n: pretrained.load_tracker(n, 8, "boxes") for n in options.boxes.split(",") if n}
  if options.tiny:
    dense, boxes = {"untrained": untrained("dense")}, {"untrained": untrained("boxes")}
  readers = {name: as_reading(*pair) for name, pair in dense.items()}
  methods = {name: as_box_method(*pair) for name, pair in boxes.items()}
  tables = [
    dense_table(readers, levels, num, ticks, side),
    boxes_table(methods, levels, num, ticks, side),
  ]
  common.publish("readouts", options, tables, about)


if __name__ == "__main__":
  main()
