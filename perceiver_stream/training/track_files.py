"""Files that tracks of a video are written to, piece by piece: movie, table, recording, event files.

Each appears under its name when complete, and not at all after an error.
"""

import contextlib
import csv
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from perceiver_stream.evaluation.rerun_files import RerunFile
from perceiver_stream.evaluation.trackers_online import Said
from perceiver_stream.training.logs import TensorBoard
from perceiver_stream.training.movies import MovieWriter
from perceiver_stream.utils import atomic

COLUMNS = ("point", "frame", "time_s", "x", "y", "visible", "certainty")

# Takes the number of the first frame of a piece, the frames, these with points drawn, and what was
# said of the points.
Sink = Callable[[int, np.ndarray, np.ndarray, Said], None]


@contextlib.contextmanager
def movie(path: pathlib.Path, rate_hz: float | int) -> Iterator[Sink]:
  """Yields what writes the frames with points drawn as a movie of their size."""
  with MovieWriter(path, rate_hz=rate_hz, min_side=1) as writer:

    def add(first: int, frames: np.ndarray, drawn: np.ndarray, said: Said) -> None:
      for picture in drawn:
        writer.picture(picture)

    yield add


@contextlib.contextmanager
def table(path: pathlib.Path, rate_hz: float | int) -> Iterator[Sink]:
  """Yields what writes a row of `COLUMNS` for each point and frame, from its query on."""
  with atomic.replacing(path) as part, part.open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)

    def add(first: int, frames: np.ndarray, drawn: np.ndarray, said: Said) -> None:
      for t in range(len(frames)):
        for n in np.flatnonzero(np.isfinite(said.tracks[:, t, 0])):
          x, y = said.tracks[n, t]
          sure = said.certainty[n, t]
          numbers = f"{(first + t) / rate_hz:.6f}", f"{x:.3f}", f"{y:.3f}"
          known = "" if np.isnan(sure) else f"{sure:.4f}"
          writer.writerow((n, first + t, *numbers, int(said.visible[n, t]), known))

    yield add


@contextlib.contextmanager
def recording(path: pathlib.Path, rate_hz: float | int) -> Iterator[Sink]:
  """Yields what writes frames, points and the number of visible ones for the Rerun viewer."""
  with atomic.replacing(path) as part, RerunFile(part, rate_hz=rate_hz) as file:

    def add(first: int, frames: np.ndarray, drawn: np.ndarray, said: Said) -> None:
      for t, frame in enumerate(frames):
        file.picture("video", first + t, frame)
        file.points("video/points", first + t, said.tracks[:, t], said.visible[:, t])
        file.number("visible", first + t, int(said.visible[:, t].sum()))

    yield add


@contextlib.contextmanager
def events(folder: pathlib.Path, rate_hz: float | int) -> Iterator[Sink]:
  """Yields what writes TensorBoard files: visible points, and a picture of every second."""
  with contextlib.closing(TensorBoard(folder, 0)) as board:
    every = max(1, round(rate_hz))

    def add(first: int, frames: np.ndarray, drawn: np.ndarray, said: Said) -> None:
      for t, picture in enumerate(drawn):
        board.add(first + t, {"tracks": {"visible": int(said.visible[:, t].sum())}})
        if (first + t) % every == 0:
          board.add_picture(first + t, "tracks/overlay", picture)

    yield add
