"""Recordings for the Rerun viewer (extra `viz`): images, points and numbers on one clock.

  with RerunFile("tracks.rrd") as recording:
    recording.set_time(0, 0.0)
    recording.write_frame("video", np.zeros((48, 64, 3), np.uint8))
    recording.points("video/points", np.asarray([[10.5, 20.5]]), np.asarray([True]))

`rerun tracks.rrd` shows it. Rerun uses the same raster coordinates.
"""

import importlib
import pathlib
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, UInt8

from perceiver_stream.reporting.images import png_bytes
from perceiver_stream.reporting.track_images import colours_of
from perceiver_stream.utils.paths import user_path

_HIDDEN_ALPHA = 70  # of 255


class RerunFile:
  """A recording that is written as it is made; memory does not grow with it."""

  def __init__(self, path: str | pathlib.Path):
    """Starts the file.

    Args:
      path: Of the recording, by custom ending in `.rrd`; its folder is made.

    Raises:
      RuntimeError: Rerun is not installed.
    """
    self._rerun = rerun()
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    self._stream = self._rerun.RecordingStream("perceiver_stream", make_default=False)
    self._stream.save(path)

  def set_time(self, tick: int, time_s: float | int) -> None:
    """Sets the tick, and its time in seconds, for the next calls."""
    self._stream.set_time("tick", sequence=tick)
    self._stream.set_time("time", duration=float(time_s))

  def write_frame(self, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes an image, lossless, under a name such as `video` or `tokens`."""
    image = self._rerun.EncodedImage(contents=png_bytes(rgb), media_type="image/png")
    self._stream.log(name, image)

  def points(
    self, name: str, places: Float[np.ndarray, "N 2"], visible: Bool[np.ndarray, " N"]
  ) -> None:
    """Writes points in the colours of `track_images`, hidden ones faint; NaN is left out.

    Args:
      name: Below the name of an image, such as `video/points`, points are drawn on it.
      places: (x, y) in raster coordinates.
      visible: Mask of the visible points.
    """
    known = np.flatnonzero(np.isfinite(places).all(axis=-1))
    alpha = np.where(visible, 255, _HIDDEN_ALPHA)[:, None].astype(np.uint8)
    colours = np.concatenate([colours_of(len(places)), alpha], axis=1)
    points = self._rerun.Points2D(
      places[known], colors=colours[known], radii=-3.0, class_ids=known.astype(np.uint16)
    )
    self._stream.log(name, points)

  def number(self, name: str, value: float | int) -> None:
    """Writes a number; the viewer shows a curve."""
    self._stream.log(name, self._rerun.Scalars(float(value)))

  def camera(self, name: str, pose: Float[np.ndarray, "4 4"]) -> None:
    """Writes where a camera is: its camera-to-world pose, x right, y down, z ahead."""
    place = self._rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3])
    self._stream.log(name, place)

  def line(self, name: str, points: Float[np.ndarray, "N 3"]) -> None:
    """Writes a line through points in the world."""
    self._stream.log(name, self._rerun.LineStrips3D([points]))

  def __enter__(self) -> "RerunFile":
    return self

  def __exit__(self, *error: object) -> None:
    self._stream.flush()
    self._stream.disconnect()


def rerun() -> ModuleType:
  """Returns the package; raises RuntimeError where it is not installed."""
  try:
    return importlib.import_module("rerun")
  except ImportError as error:
    raise RuntimeError(
      'rerun is not installed, which writes recordings for its viewer: pip install "rerun-sdk" or '
      'pip install -e ".[viz]".'
    ) from error
