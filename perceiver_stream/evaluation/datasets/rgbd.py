"""Shared by data sets of colour and depth: the frames they yield, and readers of numbers and images."""

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32, Shaped, UInt8

from perceiver_stream.evaluation.datasets.base import UNKNOWN
from perceiver_stream.evaluation.datasets.files import Size, decoded
from perceiver_stream.evaluation.metrics import resize
from perceiver_stream.files import limits
from perceiver_stream.streams import image_files
from perceiver_stream.utils.opencv import resized

_MAX_NUMBERS_BYTES = 2**16  # a file of one matrix


class DepthFrame(NamedTuple):
  """An image with depth, labels, and camera; all of one size.

  Attributes:
    frame: RGB.
    depth: Metres along the optical axis; 0 where unknown.
    labels: Ids of classes or objects; `UNKNOWN` where there is none.
    intrinsics: (fx, fy, cx, cy) in pixels whose centres are at j + 0.5, i + 0.5; both focal lengths
      are positive.
    pose: Camera to world; the camera looks along z, y is down. NaN where it is unknown.
    time_s: Seconds from the first frame of its recording; 0 for single images.
    name: Of the frame in its data set.
  """

  frame: UInt8[np.ndarray, "H W 3"]
  depth: Float32[np.ndarray, "H W"]
  labels: Int32[np.ndarray, "H W"]
  intrinsics: Float[np.ndarray, " 4"]
  pose: Float[np.ndarray, "4 4"]
  time_s: float
  name: str


Frames = Iterator[DepthFrame]
NO_POSE = np.full((4, 4), np.nan)


def make(
  name: str,
  frame: UInt8[np.ndarray, "H W 3"],
  depth: Float[np.ndarray, "h w"],
  intrinsics: Float[np.ndarray, " 4"],
  *,
  labels: Shaped[np.ndarray, "Hl Wl"] | None = None,
  pose: Float[np.ndarray, "4 4"] = NO_POSE,
  time_s: float = 0.0,
  size: Size = None,
) -> DepthFrame:
  """Returns a frame in one size: that of its depth, or `size`.

  Args:
    name: Of the frame.
    frame: RGB, of any size.
    depth: Metres; what is not finite or not positive is unknown.
    intrinsics: Of the depth image, as `DepthFrame` has them.
    labels: Ids, of any size; None is `UNKNOWN` everywhere.
    pose: Camera to world.
    time_s: Its time.
    size: (H, W) to squash all to; depth and labels take the nearest value.
  """
  stored = (int(depth.shape[0]), int(depth.shape[1]))
  limits.check_image_size(*stored, name)
  size = size or stored
  scale = np.asarray([size[1] / stored[1], size[0] / stored[0]] * 2)
  metres = resize.nearest(depth, size, use_centres=True).astype(np.float32)
  ids = np.full(size, UNKNOWN, np.int32)
  if labels is not None:
    ids = resize.nearest(labels, size, use_centres=True).astype(np.int32)
  known = np.isfinite(metres) & (metres > 0)
  return DepthFrame(
    resized(frame, size),
    np.where(known, metres, np.float32(0)),
    ids,
    np.asarray(intrinsics, np.float64) * scale,
    pose if np.isfinite(pose).all() else NO_POSE,
    float(time_s),
    name,
  )


def read_rgb(path: pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
  """Returns the RGB of a JPEG or PNG file."""
  return decoded(limits.read_bytes(path), str(path))


def read_numbers(path: pathlib.Path, rows: int, columns: int) -> Float[np.ndarray, "R C"]:
  """Returns the first rows of a text file of numbers, which may be infinite.

  Raises:
    ValueError: It has other text, or fewer numbers.
  """
  words = limits.read_text(path, _MAX_NUMBERS_BYTES).replace(",", " ").split()
  if len(words) < rows * columns:
    raise ValueError(f"{path}: {len(words)} numbers; expected {rows} x {columns}.")
  try:
    values = [float(word) for word in words[: rows * columns]]
  except ValueError as error:
    raise ValueError(f"{path}: {error}; expected {rows} x {columns} numbers.") from error
  return np.asarray(values).reshape(rows, columns)


def intrinsics_of(matrix: Float[np.ndarray, "r c"], where: str) -> Float[np.ndarray, " 4"]:
  """Returns (fx, fy, cx, cy), centres at halves, of a matrix K whose first centre is (0, 0).

  Raises:
    ValueError: A focal length is not positive, or a number is not finite.
  """
  found = np.asarray([matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5])
  if not np.isfinite(found).all() or found[:2].min() <= 0:
    raise ValueError(f"{where}: intrinsics {found.tolist()}; expected positive focal lengths.")
  return found


def pose_of(rows: Float[np.ndarray, "r 4"]) -> Float[np.ndarray, "4 4"]:
  """Returns a pose of its first three rows."""
  return np.concatenate([np.asarray(rows, np.float64)[:3], [[0.0, 0.0, 0.0, 1.0]]])


def mapped(
  ids: Shaped[np.ndarray, "H W"], classes: Mapping[int, int] | None
) -> Int32[np.ndarray, "H W"]:
  """Returns ids by a table; those that are not in it are `UNKNOWN`. None leaves them as they are."""
  found, where = np.unique(ids, return_inverse=True)
  if classes is not None:
    found = np.asarray([classes.get(int(i), UNKNOWN) for i in found])
  return found.astype(np.int32)[where].reshape(ids.shape)


def numbered(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """Returns the files of a folder whose name is a number and a suffix, in order."""
  files = {int(p.stem): p for p in folder.iterdir() if p.stem.isdecimal() and len(p.stem) < 16}
  return dict(sorted(files.items()))


def finite(value: float, where: str) -> float:
  """Returns a number that is finite; ValueError otherwise."""
  if not math.isfinite(value):
    raise ValueError(f"{where}: {value}; expected a finite number.")
  return value


read_ids = image_files.read_ids  # 8 or 16 bits, as stored
