"""Point tracks of a video of any length, written as a video, tables and recordings."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from perceiver_stream.evaluation.queries import check_queries_for_size
from perceiver_stream.evaluation.trackers_online import TrackChunk
from perceiver_stream.files import limits
from perceiver_stream.inference import track_writers
from perceiver_stream.inference.tracking import CHUNK, FrameTracker
from perceiver_stream.reporting.track_images import TRAIL, draw_tracks
from perceiver_stream.streams.base import TIMESTAMP
from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path


@dataclass(kw_only=True)
class Options:
  """Further output of `write_tracks`.

  Attributes:
    trail: Length of trails, ticks.
    zoom: Integer enlargement of the video.
    rerun: Path of a recording for the Rerun viewer; "" is none.
    tensorboard: Folder for event files with an image per second; "" is none.
  """

  trail: int = TRAIL
  zoom: int = 1
  rerun: str = ""
  tensorboard: str = ""

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.trail < 0 or self.zoom < 1:
      raise ValueError(
        f"track: trail={self.trail} and zoom={self.zoom}; use 0 or more, and 1 or more."
      )


class TrackSummary(NamedTuple):
  """Result of `write_tracks`.

  Attributes:
    ticks: Number of frames.
    tracks: (x, y) in raster coordinates, `[N, T, 2]`, as in the file.
    seen: Share of positions, from the queries on, that are predicted visible.
  """

  ticks: int
  tracks: Float[np.ndarray, "N T 2"]
  seen: float


def read_points(text: str) -> Float[np.ndarray, "N 3"]:
  """Returns queries (t, y, x) from `"t,x,y;t,x,y"`, or from a CSV file with rows t,x,y.

  A file may have a first row of names.

  Raises:
    ValueError: There is no query, or one is not three numbers.
    FileNotFoundError: There is no such file.
  """
  if text.lower().endswith(".csv"):
    if not user_path(text).is_file():
      raise FileNotFoundError(f"points: there is no file {text}; give one, or frame,x,y;frame,x,y.")
    rows = [line for line in limits.read_text(text).splitlines() if line.strip()]
    if rows and [word.strip() for word in rows[0].split(",")] in (
      ["t", "x", "y"],
      ["frame", "x", "y"],
    ):
      rows = rows[1:]
  else:
    rows = [row for row in text.split(";") if row.strip()]
  if not rows:
    raise ValueError(f"points: {text!r} holds no query; give at least one, as 0,120.5,80.")
  points = [_numbers(row) for row in rows]
  return np.asarray(points, np.float64)[:, [0, 2, 1]]


def _numbers(row: str) -> list[float]:
  try:
    t, x, y = map(float, row.split(","))
  except ValueError:
    raise ValueError(
      f"points: {row.strip()!r} is no query; give frame,x,y, as 0,120.5,80, with ; between queries."
    ) from None
  return [t, x, y]


def grid_points(side: int, size: tuple[int, int]) -> Float[np.ndarray, "N 3"]:
  """Returns `side` x `side` queries (t, y, x) on the first frame, in the middle of equal cells."""
  if side < 1:
    raise ValueError(f"grid: {side} points along a side; give at least 1.")
  y, x = ((np.arange(side) + 0.5) * n / side for n in size)
  rows, columns = np.meshgrid(y, x, indexing="ij")
  return np.stack([np.zeros(side * side), rows.ravel(), columns.ravel()], axis=-1)


def write_tracks(
  folder: pathlib.Path,
  ticks: Iterable[Mapping[str, Any]],
  queries: Float[np.ndarray, "N 3"],
  follow: Callable[[Float[np.ndarray, "N 3"]], FrameTracker],
  options: Options | None = None,
  should_stop: Callable[[], bool] = lambda: False,
) -> TrackSummary:
  """Writes `overlay.mp4`, `tracks.npz` and `tracks.csv` of a video.

  Frames are dropped as soon as they are drawn; only tracks (13 bytes per point and frame) and times
  grow with the length. Times count from the first frame.

  Args:
    folder: Existing folder.
    ticks: Of one recording, in order: `pixels`, RGB, and `timestamp_s`.
    queries: (t, y, x) in raster coordinates of the frames; t in frames.
    follow: Starts the tracker; see `tracking.make_tracker`.
    options: Further output.
    should_stop: Checked between chunks; if true, the files end there, complete.

  Raises:
    ValueError: There are no frames, or a query is outside the video: no file is left.
  """
  options = options or Options()
  options.validate()
  chunks: list[TrackChunk] = []
  times: list[np.ndarray] = []
  count = 0
  with contextlib.ExitStack() as files:
    pieces = _pieces(ticks)
    first = next(pieces, None)
    if first is None:
      raise ValueError("track: the video has no frame.")
    size = first[0].shape[1:3]
    checked = check_queries_for_size(size, queries, "track")
    follower, sinks = (
      follow(checked),
      [files.enter_context(s) for s in _sinks(folder, options)],
    )
    for frames, times_s in itertools.chain([first], pieces):
      chunks.append(follower(frames))
      times.append(times_s)
      recent = _joined(chunks[-2 - options.trail // CHUNK :])
      drawn = draw_tracks(frames, *recent[:2], trail=options.trail, zoom=options.zoom)
      for sink in sinks:
        sink(track_writers.Chunk(count, times_s, frames, drawn, chunks[-1]))
      count += len(frames)
      if should_stop():
        break
    else:
      check_queries_for_size(size, queries, "track", count)
    joined = _joined(chunks)
    arrays: dict[str, Any] = joined._asdict() | {"queries": checked[:, [0, 2, 1]]}
    arrays["time_s"] = np.concatenate(times)
    with atomic.replacing(folder / "tracks.npz") as part, part.open("wb") as file:
      np.savez_compressed(file, **arrays)
  known = np.asarray(np.isfinite(joined.tracks[..., 0]))
  return TrackSummary(
    count, joined.tracks, float(joined.visible[known].mean()) if known.any() else np.nan
  )


def _sinks(
  folder: pathlib.Path, options: Options
) -> Iterator[contextlib.AbstractContextManager[track_writers.Sink]]:
  yield track_writers.movie(folder / "overlay.mp4")
  yield track_writers.table(folder / "tracks.csv")
  if options.rerun:
    yield track_writers.recording(user_path(options.rerun))
  if options.tensorboard:
    yield track_writers.events(user_path(options.tensorboard))


def _pieces(ticks: Iterable[Mapping[str, Any]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields `CHUNK` frames at a time with their times, fewer at the end."""
  rest, start_s = iter(ticks), None
  while piece := list(itertools.islice(rest, CHUNK)):
    times_s = np.asarray([tick[TIMESTAMP] for tick in piece], np.float64)
    start_s = times_s[0] if start_s is None else start_s
    yield np.stack([tick["pixels"] for tick in piece]), times_s - start_s


def _joined(chunks: list[TrackChunk]) -> TrackChunk:
  return TrackChunk(*(np.concatenate(x, axis=1) for x in zip(*chunks, strict=True)))
