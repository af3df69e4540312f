"""Clips with known tracks, and scores of point trackers on them.

A method is a function of (frames, query points) that returns tracks and where they are hidden, as
`trackers.track` does; so classical trackers and read-outs of frozen latents are scored alike.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8

from perceiver_stream.evaluation import trackers
from perceiver_stream.evaluation.metrics import tapvid
from perceiver_stream.evaluation.queries import check_queries
from perceiver_stream.types import IS_FIRST

RASTER = 256  # TAP-Vid scores in an image of this side, whatever the clip's size
SHOWN = ("average_jaccard", "average_pts_within_thresh", "occlusion_accuracy")


class Clip(NamedTuple):
  """A piece of video with the tracks of some points.

  Attributes:
    frames: RGB.
    tracks: (x, y) in raster coordinates of the frames: the first pixel's centre is (0.5, 0.5).
    occluded: True where a point is hidden or outside the image.
  """

  frames: UInt8[np.ndarray, "T H W 3"]
  tracks: Float[np.ndarray, "N T 2"]
  occluded: Bool[np.ndarray, "N T"]


Method = Callable[
  [UInt8[np.ndarray, "T H W 3"], Num[np.ndarray, "Q 3"]],
  tuple[Float[np.ndarray, "Q T 2"], Bool[np.ndarray, "Q T"]],
]
# The named methods without learning.
BASELINES: dict[str, Method] = {
  name: functools.partial(trackers.track, tracker=tracker)
  for name, tracker in trackers.TRACKERS.items()
}


def from_ticks(ticks: Iterable[Mapping[str, np.ndarray]], num_ticks: int) -> Iterator[Clip]:
  """Yields successive clips of a stream's ticks with "pixels", "points" and "points_visible".

  A clip ends where a recording does; one that is shorter than `num_ticks` is left out. A slot that
  is given to another point within a clip is left out of it.
  """
  return (_clip(kept) for kept in pieces(ticks, num_ticks))


def pieces(
  ticks: Iterable[Mapping[str, np.ndarray]], num_ticks: int
) -> Iterator[list[Mapping[str, np.ndarray]]]:
  """Yields successive `num_ticks` ticks of one recording, without the rest at its end."""
  kept: list[Mapping[str, np.ndarray]] = []
  for tick in ticks:
    if tick.get(IS_FIRST, False):
      kept = []
    kept.append(tick)
    if len(kept) == num_ticks:
      yield kept
      kept = []


def score(
  method: Method, clips: Iterable[Clip], mode: str = "first"
) -> dict[str, Float[np.ndarray, " V"]]:
  """Returns the TAP-Vid numbers of each clip, by `tapvid.KEYS`.

  Args:
    method: The method that tracks the points.
    clips: The clips; one without a visible point scores NaN.
    mode: `"first"` or `"strided"`; see `tapvid`.

  Raises:
    ValueError: There is no such mode, or `check_queries` refuses the queries of a clip.
  """
  modes = {"first": tapvid.queries_first, "strided": tapvid.queries_strided}
  if mode not in modes:
    raise ValueError(f"clips.score: mode {mode!r} is not one of {tapvid.MODES}.")
  rows = []
  for clip in clips:
    queries, track = modes[mode](clip.tracks, clip.occluded)
    check_queries(clip.frames, queries, "clips.score")
    tracks, hidden = method(clip.frames, queries)
    scale = RASTER / np.array(clip.frames.shape[2:0:-1])
    numbers = tapvid.scores(
      queries[None],
      clip.tracks[None, track] * scale,
      clip.occluded[None, track],
      tracks[None] * scale,
      hidden[None],
      mode,
    )
    rows.append({key: float(value[0]) for key, value in numbers.items()})
  return {key: np.array([row[key] for row in rows]) for key in tapvid.KEYS}


def table(results: Mapping[str, Mapping[str, np.ndarray]]) -> str:
  """Returns a Markdown table of methods: AJ, mean share within thresholds, OA, all in percent."""
  lines = ["| method | AJ | δ_avg | OA |", "|---|---|---|---|"]
  for name, numbers in results.items():
    cells = [f"{100 * tapvid.data_set_mean(numbers[key]):.1f}" for key in SHOWN]
    lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _clip(ticks: list[Mapping[str, np.ndarray]]) -> Clip:
  tracks = np.stack([tick["points"] for tick in ticks], axis=1).astype(np.float64)
  visible = np.stack([tick["points_visible"] for tick in ticks], axis=1)
  if "points_id" in ticks[0]:
    ids = np.stack([tick["points_id"] for tick in ticks], axis=1)
    same = (ids == ids[:, :1]).all(axis=1)
    tracks, visible = tracks[same], visible[same]
  return Clip(np.stack([tick["pixels"] for tick in ticks]), tracks, ~visible)
