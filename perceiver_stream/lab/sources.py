"""Sources of footage: for every kind, three disjoint sets of worlds."""

import dataclasses
from collections.abc import Callable
from typing import Any

from perceiver_stream.streams import StreamConfig, balls, maze, synthetic, video, vizdoom
from perceiver_stream.utils.paths import user_path

SETS = ("pretraining", "in_stream", "out_of_stream")
TRUTH = ("pixels", "depth", "segmentation")
MOTION = "flow_backward"


def world(seed: int, side: int, **more: Any) -> dict[str, StreamConfig]:
  """Returns synthetic worlds: a cut to another scene every 128 ticks, 5 s."""
  own = {"level": "medium", "ticks_per_scene": 128, "modalities": TRUTH} | more
  return _of(synthetic.Config, seed, side, **own)


def drifting(seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns synthetic worlds without a cut and with drifting light: one long scene each."""
  return world(seed, side, ticks_per_scene=0, lighting=0.5)


def moving(seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns fast bouncing balls, new ones every 200 ticks, with their true motion."""
  return _of(balls.Config, seed, side, speed=1.6, ticks_per_recording=200, motion=True)


def bouncing(seed: int, side: int, ticks_per_drift: int = 4000) -> dict[str, StreamConfig]:
  """Returns bouncing balls whose hues rotate once in 4,000 ticks."""
  return _of(balls.Config, seed, side, ticks_per_drift=ticks_per_drift)


def walks(seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns walks through mazes, day and night every 2,000 ticks, another maze every 1,000."""
  return _of(maze.Config, seed, side, ticks_per_night=2000, ticks_per_recording=1000)


def doom(seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns walks through a game, 7 ticks a second, in other levels in each set; needs `[sim]`."""
  walked = _of(vizdoom.Config, seed, side, rate_hz=7.0, ticks_per_recording=700, modalities=TRUTH)
  for place, name in enumerate(SETS):
    maps = tuple(f"map{10 * place + i + 1:02d}" for i in range(10))
    walked[name] = dataclasses.replace(walked[name], **{"maps": maps})
  return walked


def videos(folder: str) -> Callable[[int, int], dict[str, StreamConfig]]:
  """Returns a source that distributes the files of a folder over the sets; another split per seed."""

  def source(seed: int, side: int) -> dict[str, StreamConfig]:
    paths = sorted(str(p) for p in user_path(folder).glob("[!.]*") if p.is_file())
    if len(paths) < len(SETS):
      raise ValueError(
        f"lab: '{folder}' has {len(paths)} files; the three sets share none, so give 3 or more."
      )
    dealt = {
      name: ",".join(paths[(place + seed) % len(SETS) :: len(SETS)])
      for place, name in enumerate(SETS)
    }
    return {
      name: video.Config(
        path=path, height=side, width=side, rate_hz=12.5, audio_rate_hz=0, loops=-1
      )
      for name, path in dealt.items()
    }

  return source


SOURCES: dict[str, Callable[[int, int], dict[str, StreamConfig]]] = {
  "world": world,
  "drifting": drifting,
  "moving": moving,
  "balls": bouncing,
  "maze": walks,
  "doom": doom,
}


def sets_of(source: str, seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns the streams of the three sets by name.

  Args:
    source: One of `SOURCES`, or a folder of videos.
    seed: Of the worlds; another seed, other worlds.
    side: Rows and columns of a frame.

  Raises:
    ValueError: There is no such source.
  """
  if source in SOURCES:
    return SOURCES[source](seed, side)
  if user_path(source).is_dir():
    return videos(source)(seed, side)
  raise ValueError(
    f"lab: source {source!r} is neither one of {sorted(SOURCES)} nor a folder of videos."
  )


def rows_of(config: StreamConfig, rows: int) -> int:
  """Returns `rows`, or the number available in a stream: a folder of videos has a row per file."""
  return min(rows, len(config.path.split(","))) if isinstance(config, video.Config) else rows


def _of(config: Callable[..., Any], seed: int, side: int, **more: Any) -> dict[str, StreamConfig]:
  """Returns a silent stream of square frames for each set; their seeds differ."""
  return {
    name: config(height=side, width=side, audio_rate_hz=0, seed=len(SETS) * seed + place, **more)
    for place, name in enumerate(SETS)
  }
