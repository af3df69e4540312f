"""SUN RGB-D: single images of four depth cameras with labelled polygons and gravity.

Depth is in millimetres, with the bits of each value rotated by three; 0 is unknown. Some of the data
set's annotations are no valid JSON; such images have no labels.

Source: Song et al. 2015, "SUN RGB-D: A RGB-D Scene Understanding Benchmark Suite"; the depth's bits as
its toolbox reads them. The extrinsics turn camera axes (y down) to those with y along gravity: our
reading.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, UInt16

from perceiver_stream.evaluation.datasets import rgbd
from perceiver_stream.evaluation.datasets.base import UNKNOWN, About
from perceiver_stream.evaluation.datasets.files import Size
from perceiver_stream.files import limits
from perceiver_stream.utils.opencv import opencv
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.warn import warn

ABOUT = About(
  "SUN RGB-D",
  'the page "SUN RGB-D: A RGB-D Scene Understanding Benchmark Suite" (file SUNRGBD.zip)',
  "  <camera>/.../<image>/image/*.jpg\n"
  "  <camera>/.../<image>/depth_bfx/*.png, depth/*.png (16 bits, mm, bits rotated by 3)\n"
  "  <camera>/.../<image>/intrinsics.txt               (3 x 3)\n"
  "  <camera>/.../<image>/extrinsics/*.txt             (3 x 4, gravity)\n"
  "  <camera>/.../<image>/annotation2Dfinal/index.json (polygons)",
)
# The 37 classes of the benchmark.
CLASSES = (
  "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
  "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
  "floor_mat", "clothes", "ceiling", "books", "fridge", "tv", "paper", "towel", "shower_curtain",
  "box", "whiteboard", "person", "night_stand", "toilet", "sink", "lamp", "bathtub", "bag",
)  # fmt: skip
DEPTHS = ("depth_bfx", "depth")  # filled, and as measured
FARTHEST_M = 8.0  # larger values are set to it, as in the toolbox
_MAX_SIDE = 2**15  # of polygons, in pixels


def load(
  path: str | pathlib.Path,
  *,
  depth: str = "depth_bfx",
  classes: Sequence[str] = CLASSES,
  size: Size = None,
) -> rgbd.Frames:
  """Returns the images of a folder and of all below it, by name.

  Args:
    path: A folder of the data set; symbolic links are not followed.
    depth: "depth_bfx", filled, or "depth", as measured.
    classes: Names of classes; the id of an object is its place among them, other names are
      `UNKNOWN`.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: There is no such folder, or no image in it.
    ValueError: No such kind of depth; or a file is damaged, found when its turn comes.
  """
  if depth not in DEPTHS:
    raise ValueError(f"SUN RGB-D: depth={depth!r}; use one of {DEPTHS}.")
  root = ABOUT.need(user_path(path))
  if next(_folders(root, depth), None) is None:
    ABOUT.need(root / "<image>" / depth)
  ids = {name: number for number, name in enumerate(classes)}
  return (_frame(root, folder, depth, ids, size) for folder in _folders(root, depth))


def _folders(root: pathlib.Path, depth: str) -> Iterator[pathlib.Path]:
  """Yields the folders of images, sorted by name."""
  for place, inside, _ in os.walk(root):
    inside.sort()
    if depth in inside and "image" in inside:
      inside.clear()
      yield root / os.path.relpath(place, root)


def _only(folder: pathlib.Path, pattern: str) -> pathlib.Path:
  found = sorted(p for p in folder.glob(pattern) if not p.name.startswith("."))
  return found[0] if found else ABOUT.need(folder / pattern)


def _frame(
  root: pathlib.Path, folder: pathlib.Path, depth: str, ids: dict[str, int], size: Size
) -> rgbd.DepthFrame:
  name = folder.relative_to(root).as_posix()
  stored = rgbd.read_ids(_only(folder / depth, "*.png"))
  matrix = rgbd.read_numbers(ABOUT.need(folder / "intrinsics.txt"), 3, 3)
  turns = sorted((folder / "extrinsics").glob("*.txt"))
  pose = rgbd.pose_of(rgbd.read_numbers(turns[0], 3, 4)) if turns else rgbd.NO_POSE
  colour = rgbd.read_rgb(_only(folder / "image", "*.jpg"))
  return rgbd.make(
    name,
    colour,
    metres(stored),
    rgbd.intrinsics_of(matrix, f"SUN RGB-D {name}"),
    labels=_labels(folder / "annotation2Dfinal" / "index.json", colour.shape[:2], ids),
    pose=pose,
    size=size,
  )


def metres(stored: UInt16[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
  """Returns depth in metres of the values of a file; 0 stays 0."""
  value = stored.astype(np.uint32)
  rotated = ((value >> 3) | (value << 13)) & 0xFFFF
  return np.minimum(rotated / 1000.0, FARTHEST_M)


def _labels(
  path: pathlib.Path, size: tuple[int, ...], ids: dict[str, int]
) -> Int32[np.ndarray, "H W"]:
  """Returns the class at each pixel; later polygons lie over earlier ones."""
  labels = np.full(size, UNKNOWN, np.int32)
  if not path.is_file():
    return labels
  try:
    polygons = list(_polygons(limits.read_json(path)))
  except limits.RefusedError:
    raise
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
    warn(
      f"{path} has no polygons that can be read ({error}); its image has no labels.", UserWarning
    )
    return labels
  for name, corners in polygons:
    number = ids.get(name, UNKNOWN)
    opencv().fillPoly(labels, [corners], number)
  return labels


def _polygons(found: Any) -> Iterator[tuple[str, Int32[np.ndarray, "N 2"]]]:
  names = [str((entry or {}).get("name", "")).strip().lower() for entry in found["objects"]]
  for polygon in found["frames"][0]["polygon"]:
    x, y = (np.asarray(polygon[axis], np.float64).ravel() for axis in ("x", "y"))
    number = int(polygon["object"])
    if len(x) == len(y) >= 3 and np.isfinite([*x, *y]).all() and 0 <= number < len(names):
      corners = np.clip(np.stack([x, y], axis=-1), -_MAX_SIDE, _MAX_SIDE)
      yield names[number], np.round(corners).astype(np.int32)
