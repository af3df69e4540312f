"""Segmentation from depth alone, trained on synthetic depth alone, with and without sensor noise.

Trains a UNet on rooms (`streams.rooms`), from depth or from DHA, on exact depth or on the depth of a
simulated Kinect, and tests it on held-out rooms with three kinds of depth and on two other renderers,
ViZDoom and MuJoCo, as the nearest thing to real sensors. Seeds differ in parameters and training
rooms; test rooms are the same.

  python benchmarks/depth_segmentation.py --markdown=docs/results.md
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import common
import numpy as np

from perceiver_stream.lab import depth_segmentation as lab
from perceiver_stream.lab import other_renderers
from perceiver_stream.streams import rooms

TEST_SEED = 10**6
SENSORS = {"exact": "", "Kinect": "kinect", "Nguyen": "nguyen"}
WORLDS: dict[str, Callable[..., lab.Scenes]] = {
  "MuJoCo": other_renderers.sample_mujoco,
  "ViZDoom": other_renderers.sample_vizdoom,
}
RULE, MAJORITY = "thresholds of height and angle", "wall everywhere"
Trained = dict[tuple[str, str], list[lab.Segmenter]]


def train_all(
  sizes: Mapping[str, Any], seeds: int, count: int, settings: Mapping[str, Any]
) -> tuple[Trained, list]:
  """Returns segmenters by (input, depth of training), one for each seed, and a table of CPU time."""
  found: Trained = {}
  spent: dict[tuple[str, str], float] = {}
  start = time.process_time()
  for seed in range(seeds):
    for sensor in ("exact", "Kinect"):
      scenes = lab.sample(count, sensor=SENSORS[sensor], seed=seed, **sizes)
      for inputs in ("d", "dha"):
        before = time.process_time()
        segmenter = lab.train(scenes, lab.Config(inputs=inputs, seed=seed, **settings))
        found.setdefault((inputs, sensor), []).append(segmenter)
        key = (inputs, sensor)
        spent[key] = spent.get(key, 0) + (time.process_time() - before) / 60
  rows = [[a.upper(), b, minutes / seeds, minutes] for (a, b), minutes in spent.items()]
  total = (time.process_time() - start) / 60
  return found, [*rows, ["all, with sampling", "", None, total]]


def percent(scores: Sequence[float]) -> str:
  """Returns mean and standard deviation over seeds, in percent."""
  return f"{100 * np.mean(scores):.1f} ± {100 * np.std(scores):.1f}"


def room_scores(scenes: lab.Scenes, found: np.ndarray) -> tuple[float, float]:
  """Returns the mean IoU of the classes, and over pixels without depth."""
  missing = scenes.dha[..., 0] == 0
  labels = np.where(missing, scenes.labels, lab.UNKNOWN)
  each = [lab.score(truth, found, len(rooms.CLASSES)) for truth in (scenes.labels, labels)]
  return float(np.nanmean(each[0])), float(np.nanmean(each[1])) if missing.any() else float("nan")


def room_table(trained: Trained, tests: Mapping[str, lab.Scenes]) -> common.Table:
  """Returns the table of held-out rooms."""
  rows, noisy = [], {}
  for (inputs, sensor), segmenters in trained.items():
    cells, missing = [], "–"
    for name, scenes in tests.items():
      each = [room_scores(scenes, lab.predict(s, scenes.dha)) for s in segmenters]
      cells.append(percent([mean for mean, _ in each]))
      if name == "Kinect":
        noisy[inputs, sensor] = np.mean([mean for mean, _ in each])
        missing = percent([mean for _, mean in each])
    ratio = float(noisy[inputs, sensor] / noisy[inputs, "exact"])
    rows.append([inputs.upper(), sensor, *cells, missing, round(ratio, 3)])
  columns = ["input", "trained on", *(f"mIoU, {name} depth" for name in tests)]
  columns += ["mIoU of pixels without depth (Kinect)", "x exact training (Kinect)"]
  note = (
    f"Mean ± standard deviation over {len(next(iter(trained.values())))} seeds, in percent; "
    f"{len(next(iter(tests.values())).dha)} views of rooms that no seed trains on, {len(rooms.CLASSES)} classes "
    f"({', '.join(rooms.CLASSES)})."
  )
  return common.Table("Depth segmentation, held-out rooms", columns, rows, note)


def grouped(trained: Trained, scenes: lab.Scenes) -> dict[tuple[str, str], list[np.ndarray]]:
  """Returns the groups that each segmenter, the rule and the majority find."""
  found = {
    key: [lab.GROUPS[lab.predict(s, scenes.dha)] for s in segmenters]
    for key, segmenters in trained.items()
  }
  wall = np.full(scenes.labels.shape, lab.GROUP_NAMES.index("wall"))
  return found | {(RULE, "–"): [lab.rule(scenes.dha)], (MAJORITY, "–"): [wall]}


def group_table(
  title: str, trained: Trained, tests: Mapping[str, lab.Scenes], *, room: bool
) -> common.Table:
  """Returns the table of groups: of rooms, or of a world of another renderer.

  Args:
    title: Of the table.
    trained: Segmenters.
    tests: Scenes by kind of depth.
    room: Labels are classes of `rooms`; otherwise they are groups.
  """
  rows, columns = [], ["input", "trained on"]
  found = {name: grouped(trained, scenes) for name, scenes in tests.items()}
  truths = {n: np.where(s.labels >= 0, lab.GROUPS[s.labels] if room else s.labels, lab.UNKNOWN)
            for n, s in tests.items()}  # fmt: skip
  present = sorted({int(x) for truth in truths.values() for x in np.unique(truth) if x >= 0})
  names = ["surface" if room is False and len(present) == 2 and p == 2 else lab.GROUP_NAMES[p]
           for p in present]  # fmt: skip
  for key in next(iter(found.values())):
    cells, last = [], 0.0
    for name, truth in truths.items():
      each = [_ious(truth, x, present) for x in found[name][key]]
      cells += [percent([float(np.mean(x)) for x in each])]
      last = float(np.mean([np.mean(x) for x in each]))
    cells.append(" / ".join(f"{100 * x:.0f}" for x in np.mean(each, axis=0)))
    rule = np.mean(_ious(truth, found[name][RULE, "–"][0], present))
    label = key[0].upper() if key in trained else key[0]
    rows.append([label, key[1], *cells, round(last / float(rule), 3)])
  columns += [f"mIoU, {name} depth" for name in tests]
  columns += [f"{' / '.join(names)} ({name})", f"x thresholds ({name})"]
  note = f"{len(next(iter(tests.values())).dha)} views; groups {', '.join(names)}."
  return common.Table(title, columns, rows, note)


def _ious(truth: np.ndarray, found: np.ndarray, present: Sequence[int]) -> np.ndarray:
  """Returns the IoU of the groups that occur; with two of them, all but objects is one."""
  if len(present) == 2:
    found = np.where(found == lab.GROUP_NAMES.index("object"), found, present[0])
  return lab.score(truth, found, len(lab.GROUP_NAMES))[np.asarray(present)]


def main(argv: list[str] | None = None) -> None:
  more = {"seeds": 3, "scenes": 320, "tests": 96, "steps": 300}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  seeds, count, tests = options.seeds, options.scenes, options.tests
  sizes, settings = {"height": 48, "width": 64}, {"steps": options.steps}
  if options.tiny:
    seeds, count, tests, sizes = 1, 16, 8, {"height": 16, "width": 24}
    settings = {"steps": 2, "channels": (4,)}
  trained, spent = train_all(sizes, seeds, count, settings)
  held_out = {
    name: lab.sample(tests, sensor=sensor, seed=TEST_SEED, **sizes)
    for name, sensor in SENSORS.items()
  }
  tables = [
    room_table(trained, held_out),
    group_table("Depth segmentation, held-out rooms in four groups", trained, held_out, room=True),
  ]
  for world, sample in WORLDS.items():
    scenes = {
      name: sample(tests, sensor=SENSORS[name], seed=TEST_SEED, **sizes)
      for name in ("exact", "Kinect")
    }
    tables.append(group_table(f"Depth segmentation, {world}", trained, scenes, room=False))
  columns = ["input", "trained on", "CPU minutes a seed", "CPU minutes"]
  tables.append(common.Table("Depth segmentation, cost of training", columns, spent))
  tables[-1] = tables[-1]._replace(
    columns=[*columns, "x all"], rows=[[*row, row[3] / spent[-1][3]] for row in spent]
  )
  common.publish("depth_segmentation", options, tables, about)


if __name__ == "__main__":
  main()
