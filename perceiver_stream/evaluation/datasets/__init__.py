"""Loaders of the field's data: one file each; this list is the only other place that names them.

A loader takes the folder of the data, already fetched, and returns an iterator: of clips of points
(`evaluation.clips.Clip`), masks, joints or boxes, or of images with depth (`DepthFrame`). To add one, write `datasets/<name>.py` with an
`ABOUT` and a `load`, and name it in `DATASETS`. `evaluation.scoring` runs methods over them.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from perceiver_stream.evaluation.datasets import (
  davis,
  icl_nuim,
  jhmdb,
  movi,
  nyuv2,
  perception_test,
  scannet,
  scenenet_rgbd,
  sun_rgbd,
  tapvid,
  tum_rgbd,
  vip,
)
from perceiver_stream.evaluation.datasets.base import UNKNOWN as UNKNOWN
from perceiver_stream.evaluation.datasets.base import BoxClip as BoxClip
from perceiver_stream.evaluation.datasets.base import JointClip as JointClip
from perceiver_stream.evaluation.datasets.base import MaskClip as MaskClip
from perceiver_stream.evaluation.datasets.base import boxes_from_ticks as boxes_from_ticks
from perceiver_stream.evaluation.datasets.base import masks_from_ticks as masks_from_ticks
from perceiver_stream.evaluation.datasets.rgbd import DepthFrame as DepthFrame

DATASETS: dict[str, Callable[..., Iterator[Any]]] = {
  "tapvid": tapvid.load,
  "davis": davis.load,
  "vip": vip.load,
  "jhmdb": jhmdb.load,
  "perception_test_points": perception_test.load_points,
  "perception_test_boxes": perception_test.load_boxes,
  "movi_points": movi.load_points,
  "movi_masks": movi.load_masks,
  "nyuv2": nyuv2.load,
  "sun_rgbd": sun_rgbd.load,
  "scenenet_rgbd": scenenet_rgbd.load,
  "icl_nuim": icl_nuim.load,
  "tum_rgbd": tum_rgbd.load,
  "scannet": scannet.load,
}


def load(name: str, path: str | pathlib.Path, **options: Any) -> Iterator[Any]:
  """Returns the clips of a data set.

  Args:
    name: One of `DATASETS`.
    path: Its folder.
    **options: Of its loader.

  Raises:
    ValueError: There is no such data set.
    FileNotFoundError: The data are missing; names their source, and the layout expected.
  """
  if name not in DATASETS:
    raise ValueError(f"datasets: there is no {name!r}; use one of {sorted(DATASETS)}.")
  return DATASETS[name](path, **options)
