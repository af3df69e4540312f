"""TUM RGB-D: recordings of a moving Kinect with poses of a motion-capture system.

Depth is in steps of 1 / 5000 m, 0 is unknown. Images, depth and poses have their own times and are
associated by them.

Source: Sturm et al. 2012, "A Benchmark for the Evaluation of RGB-D SLAM Systems"; intrinsics as its
page on file formats has them.
"""

import bisect
import pathlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from perceiver_stream.evaluation.datasets import rgbd
from perceiver_stream.evaluation.datasets.base import About
from perceiver_stream.evaluation.datasets.files import Size
from perceiver_stream.streams import image_files
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "TUM RGB-D",
  'the page "RGB-D SLAM Dataset and Benchmark" of the computer vision group of TU Munich (CC BY 4.0)',
  "  rgb.txt, depth.txt (lines: seconds, file)\n"
  "  groundtruth.txt    (lines: seconds, tx ty tz qx qy qz qw)\n"
  "  rgb/*.png, depth/*.png",
)
UNIT_M = image_files.UNITS["tum"]
# fx, fy, cx, cy with the first centre at (0, 0), by a part of the folder's name; "" is the driver's.
INTRINSICS = {
  "freiburg1": (517.3, 516.5, 318.6, 255.3),
  "freiburg2": (520.9, 521.0, 325.1, 249.7),
  "freiburg3": (535.4, 539.2, 320.1, 247.6),
  "": (525.0, 525.0, 319.5, 239.5),
}
# Of the colour camera, (k1, k2, p1, p2, k3) for `nn.geometry.cameras.distort`; freiburg3 has none.
DISTORTION = {
  "freiburg1": (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
  "freiburg2": (0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
  "freiburg3": (0.0, 0.0, 0.0, 0.0, 0.0),
}
_NEIGHBOURS = 4  # candidates of an association on each side


def load(
  path: str | pathlib.Path, *, max_difference_s: float = 0.02, size: Size = None
) -> rgbd.Frames:
  """Returns the images that have depth, in order; there are no labels.

  Args:
    path: Folder of a recording; the camera's number is read from its name.
    max_difference_s: Between the times of an image and its depth, and its pose.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: A list is damaged; or an image is, found when its turn comes.
  """
  root = user_path(path)
  for name in ("rgb.txt", "depth.txt"):
    ABOUT.need(root / name)
  tracks = image_files.read_tracks(root, "tum", Fraction(30))
  pixels, depth, poses = (tracks[name] for name in ("pixels", "depth", "camera"))
  pairs = associate(pixels.times, depth.times, max_difference_s)
  nearest = associate(pixels.times, poses.times, max_difference_s)
  camera = intrinsics_of(root.name)
  return (
    rgbd.make(
      pixels.items[i].stem,
      rgbd.read_rgb(pixels.items[i]),
      rgbd.read_ids(depth.items[j]) * UNIT_M,
      camera,
      pose=rgbd.pose_of(poses.items[nearest[i]].reshape(3, 4)) if i in nearest else rgbd.NO_POSE,
      time_s=float(pixels.times[i]),
      size=size,
    )
    for i, j in sorted(pairs.items())
  )


def intrinsics_of(name: str) -> Float[np.ndarray, " 4"]:
  """Returns the intrinsics of a recording by its name, with centres at halves."""
  fx, fy, cx, cy = next(v for part, v in INTRINSICS.items() if part in name)
  return np.asarray([fx, fy, cx + 0.5, cy + 0.5])


def associate(one: Sequence[Fraction], other: Sequence[Fraction], most: float) -> dict[int, int]:
  """Returns indices of `other` by those of `one`, closest pairs first, each used once.

  Args:
    one: Times in ascending order.
    other: Times in ascending order.
    most: Largest difference in seconds.
  """
  pairs = []
  for i, time in enumerate(one):
    at = bisect.bisect_left(other, time)
    for j in range(max(0, at - _NEIGHBOURS), min(len(other), at + _NEIGHBOURS)):
      difference = abs(other[j] - time)
      if difference < most:
        pairs.append((difference, i, j))
  found: dict[int, int] = {}
  taken: set[int] = set()
  for _, i, j in sorted(pairs):
    if i not in found and j not in taken:
      found[i] = j
      taken.add(j)
  return found
