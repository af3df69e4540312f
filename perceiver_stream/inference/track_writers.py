"""Writers of the tracks of a video, chunk by chunk: video, table, Rerun recording, event files.

Each file appears under its name when complete, and not at all after an error.
"""

import contextlib
import csv
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_stream.evaluation.trackers_online import TrackChunk
from perceiver_stream.reporting.rerun_files import RerunFile
from perceiver_stream.reporting.tensorboard import TensorBoard
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.utils import atomic

COLUMNS = ("point", "frame", "time_s", "x", "y", "visible", "certainty")


class Chunk(NamedTuple):
  """Successive frames with their tracks.

  Attributes:
    first: Number of the first frame in the video.
    times_s: Of the frames, seconds.
    frames: RGB.
    drawn: Frames with points drawn, enlarged on request.
    tracks: Tracks in these frames.
  """

  first: int
  times_s: Float[np.ndarray, " T"]
  frames: UInt8[np.ndarray, "T H W 3"]
  drawn: UInt8[np.ndarray, "T h w 3"]
  tracks: TrackChunk


Sink = Callable[[Chunk], None]


@contextlib.contextmanager
def movie(path: pathlib.Path) -> Iterator[Sink]:
  """Yields a writer of the drawn frames as a video, each at its time."""
  with VideoWriter(path, min_side=1) as writer:

    def add(chunk: Chunk) -> None:
      for picture, time_s in zip(chunk.drawn, chunk.times_s, strict=True):
        writer.write_frame(picture, float(time_s))

    yield add


@contextlib.contextmanager
def table(path: pathlib.Path) -> Iterator[Sink]:
  """Yields a writer of a CSV row of `COLUMNS` for each point and frame, from its query on."""
  with atomic.replacing(path) as part, part.open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)

    def add(chunk: Chunk) -> None:
      tracks, visible, certainty = chunk.tracks
      for t, time_s in enumerate(chunk.times_s):
        for n in np.flatnonzero(np.isfinite(tracks[:, t, 0])):
          x, y = tracks[n, t]
          numbers = f"{time_s:.6f}", f"{x:.3f}", f"{y:.3f}"
          known = "" if np.isnan(certainty[n, t]) else f"{certainty[n, t]:.4f}"
          writer.writerow((n, chunk.first + t, *numbers, int(visible[n, t]), known))

    yield add


@contextlib.contextmanager
def recording(path: pathlib.Path) -> Iterator[Sink]:
  """Yields a writer of frames, points and the number of visible points for the Rerun viewer."""
  with atomic.replacing(path) as part, RerunFile(part) as file:

    def add(chunk: Chunk) -> None:
      for t, (frame, time_s) in enumerate(zip(chunk.frames, chunk.times_s, strict=True)):
        visible = chunk.tracks.visible[:, t]
        file.set_time(chunk.first + t, float(time_s))
        file.write_frame("video", frame)
        file.points("video/points", chunk.tracks.tracks[:, t], visible)
        file.number("visible", int(visible.sum()))

    yield add


@contextlib.contextmanager
def events(folder: pathlib.Path) -> Iterator[Sink]:
  """Yields a writer of TensorBoard files: the number of visible points, and an image per second."""
  with contextlib.closing(TensorBoard(folder, 0)) as board:
    due_s = -math.inf

    def add(chunk: Chunk) -> None:
      nonlocal due_s
      for t, (picture, time_s) in enumerate(zip(chunk.drawn, chunk.times_s, strict=True)):
        board.add(chunk.first + t, {"tracks": {"visible": int(chunk.tracks.visible[:, t].sum())}})
        if time_s >= due_s:
          board.add_image(chunk.first + t, "tracks/overlay", picture)
          due_s = math.floor(time_s) + 1

    yield add
