"""Time of every metric of a clip, compared with one run of trackers.

  python benchmarks/scoring.py

A clip has 24 frames of 128 x 128 pixels, 64 points, 5 objects; predictions are the truth with noise.
The frozen model, with an untrained point read-out, processes the clip at its own size.
"""

import functools
from collections.abc import Callable
from typing import Any

import common
import cv2
import jax
import numpy as np

import perceiver_stream
from perceiver_stream import streams
from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.metrics import (
  boxes,
  davis,
  depth,
  flow,
  image,
  miou,
  pck,
  redetection,
  streaming,
  tapvid,
)
from perceiver_stream.inference.tracking_methods import as_method
from perceiver_stream.models import point_readout
from perceiver_stream.training.objectives.point_tracking import TrackerLearner

LK, DIS, FROZEN = "LK tracker", "DIS tracker", "stream_perceiver/tiny_world"


def problem(ticks: int, side: int, num_points: int) -> dict[str, np.ndarray]:
  """Returns a clip of the synthetic world, its ground truth and noisy predictions."""
  names = ("pixels", "flow", "segmentation", "depth", "points", "points_visible")
  config = streams.synthetic.Config(
    modalities=names, height=side, width=side, num_points=num_points, seed=0
  )
  kept = next(clips.pieces(streams.open_rows(config)[0], ticks))
  found = {name: np.stack([tick[name] for tick in kept]) for name in names}
  rng = np.random.default_rng(0)
  found["tracks"] = found["points"].swapaxes(0, 1).astype(np.float64)
  found["occluded"] = ~found["points_visible"].T
  found["said"] = found["tracks"] + rng.normal(0, 2, found["tracks"].shape)
  found["flow_said"] = found["flow"] + rng.normal(0, 1, found["flow"].shape)
  found["depth_said"] = found["depth"] * rng.uniform(0.8, 1.2, found["depth"].shape)
  found["ids"] = found["segmentation"] % 6
  found["ids_said"] = np.roll(found["ids"], 2, axis=2)
  return found


def scorers(p: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
  """Returns the scoring functions of a clip, by name."""
  asked, track = tapvid.queries_first(p["tracks"], p["occluded"])
  often, again = tapvid.queries_strided(p["tracks"], p["occluded"])
  pair = lambda track: tuple(  # noqa: E731
    p[name][track][None] for name in ("tracks", "occluded", "said", "occluded")
  )
  frames = len(p["pixels"])
  late = streaming.associate(np.arange(frames), np.arange(frames) + 1.5, frames, 1)
  known = (asked[None], p["said"][None, track], p["occluded"][None, track])
  pixels = p["pixels"].astype(np.float32) / 255
  ids, said = p["ids"], p["ids_said"]
  joints, seen = p["tracks"][:15].swapaxes(0, 1), ~p["occluded"][:15].T
  corners = np.concatenate([p["tracks"] - 5, p["tracks"] + 5], axis=-1).swapaxes(0, 1)[None]
  return {
    "TAP-Vid, queries first": lambda: tapvid.scores(asked[None], *pair(track)),
    "TAP-Vid, strided": lambda: tapvid.scores(often[None], *pair(again), "strided"),
    "AJ_RD": lambda: redetection.redetection(*pair(track)),
    "streaming TAP-Vid": lambda: tapvid.scores(
      asked[None], *pair(track)[:2], *streaming.stream_tracks(*known, association=late)
    ),
    "PCK, 15 joints": lambda: [
      pck.pck([joints], [joints + 1], [seen], share) for share in pck.THRESHOLDS
    ],
    "IoU of 64 boxes": lambda: boxes.track_means(
      *boxes.track_iou(corners, corners + 1, ~p["occluded"].T[None])
    ),
    "J and F, 5 things": lambda: davis.objects(ids, said),
    "mIoU": lambda: miou.mean_iou(miou.confusion(ids, said, 6)),
    "depth, one alignment": functools.partial(depth.scores, p["depth"], p["depth_said"]),
    "depth, every alignment": lambda: [
      depth.scores(p["depth"], p["depth_said"], alignment=a) for a in depth.ALIGNMENTS
    ],
    "flow": lambda: flow.scores(p["flow"], p["flow_said"]),
    "PSNR": lambda: image.psnr(pixels, pixels[::-1]),
    "SSIM": lambda: image.ssim(pixels, pixels[::-1]),
  }


def frozen(p: dict[str, np.ndarray], asked: np.ndarray) -> Callable[[], Any]:
  """Returns a run of a frozen model with a point read-out over the clip, at the model's size."""
  model = perceiver_stream.build(FROZEN)
  size = model.modalities["pixels"].spec.shape[:2]
  frames = np.stack([cv2.resize(frame, size[::-1]) for frame in p["pixels"]])
  asked = asked * [1, *(new / old for new, old in zip(size, p["pixels"].shape[1:3], strict=True))]
  rng = jax.random.PRNGKey(0)
  observation = {"pixels": frames[:1], "is_first": np.ones(1, bool)}
  tracker = point_readout.build(point_readout.Config())
  watched = TrackerLearner(model, model.init(rng, observation), tracker, num_slots=asked.shape[0])
  method = as_method(watched, watched.init_params(rng, observation))
  return lambda: method(frames, asked)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  cv2.setNumThreads(1)
  ticks, side, num_points = (4, 32, 16) if options.tiny else (24, 128, 64)
  p = problem(ticks, side, num_points)
  asked, _ = tapvid.queries_first(p["tracks"], p["occluded"])
  follow = lambda name: lambda: clips.BASELINES[name](p["pixels"], asked)  # noqa: E731
  trackers = {LK: follow("lk_gray"), DIS: follow("dis_finest0")}
  if not options.tiny:
    trackers[FROZEN] = frozen(p, asked)
  seconds = common.medians(trackers | scorers(p), 1 if options.tiny else 7)
  rows = [
    [name, 1e3 * wall, 1e3 * cpu, *(seconds[peer].cpu / max(cpu, 1e-6) for peer in trackers)]
    for name, (wall, cpu) in seconds.items()
  ]
  note = (
    f"{ticks} frames of {side} x {side}, {num_points} points, one thread. Ratios are how many times "
    "the CPU time of a row goes into one run of that tracker on the clip."
  )
  columns = ["scored", "ms", "CPU ms", *(f"x {peer}" for peer in trackers)]
  common.publish("scoring", options, [common.Table("Scoring a clip", columns, rows, note)], about)


if __name__ == "__main__":
  main()
