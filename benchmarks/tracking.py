"""Point tracking by read-outs of frozen latents and by classical trackers, on held-out scenes.

  python benchmarks/tracking.py
  python benchmarks/tracking.py --models=stream_perceiver/tiny_world,MY.safetensors --markdown=docs/results.md

Scenes of the synthetic world, 64 x 64, that no config trains on; TAP-Vid scores, queries where a
point is first visible, thresholds in an image of 256 x 256. Models are names of bundled weights, or
files of `scripts/export.py`. Long clips are longer than any training window of the trackers.
`--models=` leaves them out. With `--photographs=16`, also that many clips of a window that moves over
photographs, which come with scikit-image (extra `eval`); `--clips=0` leaves the scenes out.
"""

import time
from typing import Any

import common
import numpy as np
import photographs

from perceiver_stream import streams
from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.metrics import tapvid
from perceiver_stream.inference.pretrained import load_tracker
from perceiver_stream.inference.tracking_methods import as_method

LEVELS = ("easy", "medium", "hard")
SEED = 10**6  # of scenes that no config trains on
SIDE = 64
PEER = "lk_gray"
LAST_AJ = -4  # its column


def held_out(level: str, num: int, ticks: int, side: int, num_points: int) -> list[clips.Clip]:
  """Returns a clip of each of so many scenes."""
  config = streams.synthetic.Config(
    height=side,
    width=side,
    level=level,
    audio_rate_hz=0,
    ticks_per_recording=ticks,
    ticks_per_point=0,
    num_points=num_points,
    max_ticks=num * ticks,
    modalities=("pixels", "points", "points_visible", "points_id"),
    seed=SEED,
  )
  return list(clips.from_ticks(streams.open_rows(config)[0], ticks))


def rows_of(methods: dict[str, clips.Method], each: dict[str, list[clips.Clip]]) -> list[list[Any]]:
  """Returns AJ, mean share within thresholds and OA in percent, by method and level; time; ratio.

  The ratio is that of the last AJ to the reference's.
  """
  rows = []
  for name, method in methods.items():
    row: list[Any] = [name]
    began, frames = time.process_time(), 0
    for found in each.values():
      numbers = clips.score(method, found)
      row += [100 * tapvid.data_set_mean(numbers[key]) for key in clips.SHOWN]
      frames += sum(len(clip.frames) for clip in found)
    rows.append([*row, 1000 * (time.process_time() - began) / frames])
  peer = next(row for row in rows if row[0] == PEER)
  return [[*row, ratio(row[LAST_AJ], peer[LAST_AJ])] for row in rows]


def ratio(one: float, other: float) -> float | None:
  """Returns `one / other`; None if a ratio is meaningless."""
  return one / other if other > 0 and one >= 0 else None


def table_of(
  title: str, methods: dict[str, clips.Method], each: dict[str, list[clips.Clip]], points: int
) -> common.Table:
  """Returns the scores of all methods on clips of one length, by level."""
  some = next(iter(each.values()))
  for method in methods.values():  # compile, at a length that all share
    method(some[0].frames, np.array([[0, 5.0, 5.0]]))
  columns = ["method"]
  for level in each:
    columns += [f"{level} AJ", "δ_avg", "OA"]
  columns += ["CPU ms a frame", f"x {PEER}, {list(each)[-1]} AJ"]
  note = f"{len(some)} clips a level, {points} points each; all in %."
  return common.Table(title, columns, rows_of(methods, each), note)


def main(argv: list[str] | None = None) -> None:
  more = {
    "models": "stream_perceiver/tiny_world",
    "clips": 16,
    "ticks": 24,
    "long": 200,
    "photographs": 0,
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  num, ticks, longer, points = (
    (1, 4, 6, 4) if options.tiny else (options.clips, options.ticks, options.long, 64)
  )
  methods = dict(clips.BASELINES)
  for name in filter(None, options.models.split(",")):
    watched, params = load_tracker(name, num_slots=points)
    methods[name] = as_method(watched, params)
  tables = []
  for length, count in ((ticks, num), (longer, max(1, num // 4))):
    if not num or not length:
      continue
    each = {level: held_out(level, count, length, SIDE, points) for level in LEVELS}
    tables.append(table_of(f"Points tracked over {length} ticks", methods, each, points))
  if options.photographs:
    each = {"photographs": photographs.held_out(options.photographs, ticks, SIDE, points)}
    title = f"Points tracked over {ticks} ticks on moved photographs"
    tables.append(table_of(title, methods, each, points))
  common.publish("tracking", options, tables, about)


if __name__ == "__main__":
  main()
