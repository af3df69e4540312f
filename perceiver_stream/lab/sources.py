"""Where footage comes from: for every kind, three sets of worlds that have nothing in common."""

import glob
import os
from collections.abc import Callable

from perceiver_stream.streams import StreamConfig, synthetic, video, vizdoom

SETS = ("pretraining", "in_stream", "out_of_stream")
TRUTH = ("pixels", "depth", "segmentation")


def world(seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns synthetic worlds: a cut to another scene every 128 ticks, 5 s."""
  return {
    name: synthetic.Config(
      height=side,
      width=side,
      level="medium",
      ticks_per_scene=128,
      audio_rate_hz=0,
      modalities=TRUTH,
      seed=_seed(seed, place),
    )
    for place, name in enumerate(SETS)
  }


def doom(seed: int, side: int) -> dict[str, StreamConfig]:
  """Returns walks through other levels of a game in each set, 12 ticks a second; needs `[sim]`."""
  return {
    name: vizdoom.Config(
      height=side,
      width=side,
      rate_hz=7.0,
      maps=tuple(f"map{10 * place + i + 1:02d}" for i in range(10)),
      ticks_per_recording=700,
      audio_rate_hz=0,
      modalities=TRUTH,
      seed=_seed(seed, place),
    )
    for place, name in enumerate(SETS)
  }


def videos(folder: str) -> Callable[[int, int], dict[str, StreamConfig]]:
  """Returns a source that deals the files of a folder out to the sets; another deal per seed."""

  def source(seed: int, side: int) -> dict[str, StreamConfig]:
    paths = sorted(p for p in glob.glob(os.path.join(folder, "*")) if os.path.isfile(p))
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


SOURCES: dict[str, Callable[[int, int], dict[str, StreamConfig]]] = {"world": world, "doom": doom}


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
  if os.path.isdir(source):
    return videos(source)(seed, side)
  raise ValueError(
    f"lab: source {source!r} is neither one of {sorted(SOURCES)} nor a folder of videos."
  )


def _seed(seed: int, place: int) -> int:
  return len(SETS) * seed + place
