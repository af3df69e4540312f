"""ICL-NUIM: synthetic living room and office with exact depth and poses, in the form of TUM RGB-D.

Depth is along the optical axis in steps of 1 / 5000 m, 0 is unknown. Its camera has y up (its focal
length fy is -480), in a left-handed world; here y is down in the camera and in the world, which are
mirrored for it, and fy is 480.

Source: Handa et al. 2014, "A Benchmark for RGB-D Visual Odometry, 3D Reconstruction and SLAM".
"""

import pathlib

import numpy as np
from jaxtyping import Float

from perceiver_stream.evaluation.datasets import rgbd
from perceiver_stream.evaluation.datasets.base import About
from perceiver_stream.evaluation.datasets.files import Size
from perceiver_stream.files import limits
from perceiver_stream.files.limits import inside
from perceiver_stream.streams.image_files import UNITS, pose_matrix
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "ICL-NUIM",
  'the page "ICL-NUIM RGB-D Benchmark Dataset", TUM RGB-D compatible PNGs (CC BY 3.0)',
  "  associations.txt   (lines: number, depth file, number, colour file)\n"
  "  *.gt.freiburg      (or groundtruth.txt; lines: number, tx ty tz qx qy qz qw)\n"
  "  rgb/0.png ..., depth/0.png ...",
)
RATE_HZ = 30.0
INTRINSICS = (481.2, 480.0, 320.0, 240.0)  # centres at halves
_FLIP = np.diag([1.0, -1.0, 1.0, 1.0])


def load(path: str | pathlib.Path, *, size: Size = None) -> rgbd.Frames:
  """Returns the frames of a recording, in order; there are no labels.

  Args:
    path: Its folder.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: A line of a list is not as described; or an image is damaged, found when its turn
      comes.
  """
  root = user_path(path)
  listed = ABOUT.need(root / "associations.txt")
  found = [*sorted(root.glob("*.gt.freiburg")), root / "groundtruth.txt"]
  poses = _poses(ABOUT.need(found[0]))
  pairs = [
    _pair(root, line, listed) for line in limits.read_text(listed).splitlines() if line.strip()
  ]
  first = pairs[0][0] if pairs else 0
  return (
    rgbd.make(
      str(number),
      rgbd.read_rgb(colour),
      rgbd.read_ids(depth) * UNITS["tum"],
      np.asarray(INTRINSICS),
      pose=poses.get(number, rgbd.NO_POSE),
      time_s=(number - first) / RATE_HZ,
      size=size,
    )
    for number, depth, colour in pairs
  )


def _pair(
  root: pathlib.Path, line: str, where: pathlib.Path
) -> tuple[int, pathlib.Path, pathlib.Path]:
  words = line.split()
  if len(words) != 4 or not words[0].isdecimal() or len(words[0]) > 15:
    raise ValueError(
      f"{where}: the line {line[:80]!r}; expected a number, a depth file, a number, a colour file."
    )
  return int(words[0]), inside(root, words[1]), inside(root, words[3])


def _poses(path: pathlib.Path) -> dict[int, Float[np.ndarray, "4 4"]]:
  """Returns poses by the number of the image; some first images have none."""
  found = {}
  for line in limits.read_text(path).splitlines():
    if not line.strip() or line.startswith("#"):
      continue
    try:
      number, *values = (float(word) for word in line.split())
      place, turn = np.asarray(values[:3]), np.asarray(values[3:])
      pose = rgbd.pose_of(pose_matrix(place, turn / np.linalg.norm(turn)).reshape(3, 4))
      found[int(rgbd.finite(number, str(path)))] = _FLIP @ pose @ _FLIP
    except ValueError as error:
      raise ValueError(
        f"{path}: the line {line[:80]!r}; expected a number, tx ty tz qx qy qz qw ({error})."
      ) from error
  return found
