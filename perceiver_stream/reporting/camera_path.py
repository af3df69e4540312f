"""The path of the camera in a run of `ego_motion`: lines of its file, a figure, a Rerun recording.

A line of `camera_path.jsonl` is a window: `motions`, `[K][12]`, the first three rows of
`T_previous_newest` as predicted before the update; `camera`, the true camera-to-world poses where
the stream has them; `starts`, ticks (from 0) at which a recording starts.
"""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from perceiver_stream.reporting import run_files
from perceiver_stream.reporting.rerun_files import RerunFile
from perceiver_stream.types import IS_FIRST, valid_key
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.poses import chained

KEY = "camera@0"  # of the predictions
MAX_TICKS = 500  # that are drawn
_DIGITS = 6
_COLOURS = {"estimate": "#1d4ed8", "truth": "#6b7280"}


class CameraPath(NamedTuple):
  """The path in one recording, from the world of its first camera.

  Attributes:
    estimate: Poses, scaled to the length of the true path if there is one.
    truth: The true poses, or None.
  """

  estimate: Float[np.ndarray, "T 4 4"]
  truth: Float[np.ndarray, "T 4 4"] | None


def line_of(
  number: int, motions: np.ndarray, window: Mapping[str, np.ndarray]
) -> dict[str, Any] | None:
  """Returns the line of a window's first row; None where a number is not finite.

  Args:
    number: Of the window.
    motions: Predictions `[K, B, 12]`.
    window: As it came from the stream, `[W, B, ...]`; W = K.
  """
  line: dict[str, Any] = {"window": number, "motions": _rounded(motions[:, 0])}
  if "camera" in window and np.all(window.get(valid_key("camera"), True)):
    line["camera"] = _rounded(window["camera"][:, 0])
  if IS_FIRST in window:
    line["starts"] = np.flatnonzero(window[IS_FIRST][:, 0]).tolist()
  arrays = [line[name] for name in ("motions", "camera") if name in line]
  return line if all(np.all(np.isfinite(x)) for x in arrays) else None


def _rounded(values: np.ndarray) -> list[list[float]]:
  return np.round(np.asarray(values, np.float64), _DIGITS).tolist()


def read(run_dir: pathlib.Path) -> CameraPath | None:
  """Returns the path of the longer of the last two recordings of a run; None without any."""
  ticks: list[tuple[bool, list[float], list[float] | None]] = []
  lines = run_files.read_lines(run_dir / run_files.CAMERA_PATH).records
  for before, line in zip([None, *lines], lines, strict=False):
    gap = before is None or line.get("window") != before.get("window", 0) + 1
    motions, truth = line["motions"], line.get("camera")
    for i, motion in enumerate(motions):
      starts = i in line.get("starts", ()) or (gap and i == 0)
      ticks.append((starts, motion, truth[i] if truth else None))
  first = [i for i, tick in enumerate(ticks) if tick[0]]
  if not first:
    return None
  parts = [ticks[a:b] for a, b in zip(first, [*first[1:], len(ticks)], strict=True)][-2:]
  return _path(max(parts, key=len)[-MAX_TICKS:])


def _path(ticks: Sequence[tuple[bool, list[float], list[float] | None]]) -> CameraPath:
  poses = chained([_matrix(motion) for _, motion, _ in ticks])
  known = [camera for _, _, camera in ticks if camera is not None]
  if len(known) < len(ticks):
    return CameraPath(poses, None)
  world = np.stack([_matrix(camera) for camera in known])
  truth = np.linalg.inv(world[0]) @ world
  own = _length(poses)
  poses[:, :3, 3] *= _length(truth) / own if own > 0 else 1.0
  return CameraPath(poses, truth)


def _matrix(rows: list[float]) -> np.ndarray:
  return np.concatenate([np.asarray(rows, np.float64).reshape(3, 4), [[0.0, 0.0, 0.0, 1.0]]])


def _length(poses: np.ndarray) -> float:
  return float(np.sum(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1)))


def figure(path: CameraPath) -> bytes:
  """Returns both paths as SVG, from above and from the side; matplotlib is imported here."""
  from matplotlib.figure import Figure

  drawn = {"truth": path.truth, "estimate": path.estimate}
  canvas = Figure(figsize=(7.6, 3.6), layout="constrained")
  axes = canvas.subplots(1, 2)
  for axis, (row, column, name) in zip(axes, [(0, 2, "from above"), (2, 1, "side")], strict=True):
    for label, poses in drawn.items():
      if poses is not None:
        x, y = poses[:, row, 3], poses[:, column, 3]
        axis.plot(x, y, color=_COLOURS[label], label=label, linewidth=1.6)
        axis.plot(x[-1:], y[-1:], "o", color=_COLOURS[label], markersize=4)
    axis.set_xlabel(f"{'xyz'[row]}, m" if path.truth is not None else "xyz"[row])
    axis.set_ylabel("xyz"[column])
    axis.set_title(name)
    axis.set_aspect("equal", adjustable="datalim")
    axis.grid(color="#e5e7eb")
  axes[1].invert_yaxis()  # y is down
  axes[0].legend(frameon=False)
  file = io.BytesIO()
  canvas.savefig(file, format="svg", metadata={"Date": None})
  return file.getvalue()


def write_rerun(run_dir: pathlib.Path, target: str | pathlib.Path) -> pathlib.Path:
  """Writes the paths of a run as a Rerun recording: lines that grow, and the camera at each tick.

  Raises:
    ValueError: The run has no camera path.
    RuntimeError: Rerun is not installed.
  """
  path = read(run_dir)
  if path is None:
    raise ValueError(
      f"{run_dir} has no camera path; name a run of ego_motion, as rooms:tiny_odometry."
    )
  with RerunFile(target) as recording:
    for tick in range(len(path.estimate)):
      recording.set_time(tick, float(tick))
      for name, poses in (("estimate", path.estimate), ("truth", path.truth)):
        if poses is not None:
          recording.camera(f"world/{name}", poses[tick])
          recording.line(f"world/{name}_path", poses[: tick + 1, :3, 3])
  return user_path(target)
