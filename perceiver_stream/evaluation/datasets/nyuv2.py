"""NYU Depth V2: 1449 labelled images of a Kinect indoors, in one MATLAB file, which is HDF5.

Depth is in metres, filled, or as measured with 0 where unknown. Needs the extra `eval` (h5py).

Source: Silberman et al. 2012, "Indoor Segmentation and Support Inference from RGBD Images";
intrinsics of its toolbox, which counts pixels from 1.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_stream.evaluation.datasets import hdf5, rgbd
from perceiver_stream.evaluation.datasets.base import UNKNOWN, About
from perceiver_stream.evaluation.datasets.files import Size
from perceiver_stream.utils.optional import require
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "NYU Depth V2",
  'the page "NYU Depth Dataset V2", file nyu_depth_v2_labeled.mat',
  "  nyu_depth_v2_labeled.mat (HDF5: images, depths, rawDepths, labels)",
)
# Of the colour camera, 640 x 480; the toolbox's (1, 1) is our (0.5, 0.5).
INTRINSICS = (
  518.85790117450188,
  519.46961112127485,
  325.58244941119034 - 0.5,
  253.73616633400465 - 0.5,
)
DEPTHS = {"filled": "depths", "raw": "rawDepths"}


def load(
  path: str | pathlib.Path,
  *,
  depth: str = "filled",
  classes: Mapping[int, int] | None = None,
  size: Size = None,
) -> rgbd.Frames:
  """Returns the images, in order.

  Args:
    path: The file, or its folder.
    depth: "filled" or "raw".
    classes: Ids of classes by the 894 stored (1 to 894), others are `UNKNOWN`; None: those stored.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ImportError: h5py is not installed; names the extra.
    RefusedError: The file leads to others, or needs too much memory or code of others; a chunk that
      inflates to more than its size is refused before it does.
    ValueError: No such kind of depth, or the file is not as described.
  """
  if depth not in DEPTHS:
    raise ValueError(f"NYU Depth V2: depth={depth!r}; use one of {sorted(DEPTHS)}.")
  place = user_path(path)
  place = ABOUT.need(place / "nyu_depth_v2_labeled.mat" if not place.is_file() else place)
  h5py: Any = require("h5py", "eval")
  return _frames(h5py, place, DEPTHS[depth], classes, size)


def _frames(
  h5py: Any, place: pathlib.Path, depth_name: str, classes: Mapping[int, int] | None, size: Size
) -> rgbd.Frames:
  try:
    file = h5py.File(place, "r")
  except OSError as error:
    raise ValueError(f"{place} is no HDF5 file, or cut off ({error}); get it again.") from error
  with file:
    images = hdf5.Array(h5py, file, "images", 4, place)
    depths, labels = (hdf5.Array(h5py, file, name, 3, place) for name in (depth_name, "labels"))
    count, width, height = depths.shape
    if images.shape != (count, 3, width, height) or labels.shape != depths.shape:
      raise ValueError(
        f"{place}: images {images.shape}, {depth_name} {depths.shape}, labels {labels.shape}; "
        f"expected N x 3 x W x H and N x W x H."
      )
    scale = np.asarray([width / 640, height / 480] * 2)
    for number in range(count):
      ids = labels[number].T
      yield rgbd.make(
        f"{number:04d}",
        np.ascontiguousarray(images[number].transpose(2, 1, 0).astype(np.uint8)),
        depths[number].T.astype(np.float64),
        np.asarray(INTRINSICS) * scale,
        labels=np.where(ids > 0, rgbd.mapped(ids, classes), UNKNOWN),
        size=size,
      )
