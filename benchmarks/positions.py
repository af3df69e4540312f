"""Do latents with positions follow points without any training? Beside classical trackers.

  python benchmarks/positions.py
  python benchmarks/positions.py --path=MY.mp4 --markdown=docs/tracking.md

The tracks are positions of latents of a model with random parameters, which fixed rules move: "started
at the query", or "nearest of the grid" at a constant offset. Scenes, scores and sizes are those of
`benchmarks/tracking.py`. With --path, also clips of a window that moves over images of that video, as
over photographs in `benchmarks/photographs.py`: real textures, with exact tracks.
"""

import functools
from typing import Any

import common
import photographs
from tracking import LEVELS, SIDE, held_out, table_of

from perceiver_stream import streams
from perceiver_stream.evaluation import clips
from perceiver_stream.inference.latent_tracking import LatentTracker, untrained_model
from perceiver_stream.inference.tracking_methods import method_of
from perceiver_stream.streams import probe, video

CLASSICAL = ("static", "lk_gray", "dis_template")
APART = 50  # pictures of a video between two that clips are made of


def latent_methods(name: str) -> dict[str, clips.Method]:
  """Returns the two ways to follow points by the latents of a model of the zoo, untrained.

  Raises:
    ValueError: Its latents have no positions.
  """
  found = untrained_model(name)
  if found is None:
    raise ValueError(f"{name}: its latents have no positions; use stream_perceiver/tiny_positions.")
  ways = {"started at the query": False, "nearest of the grid": True}
  return {
    f"{name}, {way}": method_of(functools.partial(LatentTracker, *found, from_grid=grid))
    for way, grid in ways.items()
  }


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
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  num, ticks, longer, points = (
    (1, 4, 6, 4) if options.tiny else (options.clips, options.ticks, options.long, 64)
  )
  model = "stream_perceiver/nano_positions" if options.tiny else options.model
  methods = {name: clips.BASELINES[name] for name in CLASSICAL} | latent_methods(model)
  tables = []
  for length, count in ((ticks, num), (longer, max(1, num // 4))):
    if length:
      each = {level: held_out(level, count, length, SIDE, points) for level in LEVELS}
      tables.append(table_of(f"Positions of latents over {length} ticks", methods, each, points))
  if options.path:
    each = {"moved images": moved_images(options.path, num, ticks, points)}
    title = f"Positions of latents over {ticks} ticks on moved images of a video"
    tables.append(table_of(title, methods, each, points))
  common.publish("positions", options, tables, about)


if __name__ == "__main__":
  main()
