"""ScanNet: indoor scenes with depth, poses and labels, as its tools export them.

The exported folders are read (SensReader of the data set's repository, or `scannet_frames_25k`), not
`.sens` files. Depth is in millimetres, 0 is unknown; a pose of infinities is unknown.

Source: Dai et al. 2017, arXiv 1702.04405.
"""

import pathlib
from collections.abc import Mapping

from perceiver_stream.evaluation.datasets import rgbd
from perceiver_stream.evaluation.datasets.base import About
from perceiver_stream.evaluation.datasets.files import Size
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "ScanNet",
  'the page "ScanNet: Richly-annotated 3D Reconstructions of Indoor Scenes" (terms of use to sign)',
  "  <scene>/color/0.jpg ...\n"
  "  <scene>/depth/0.png ...               (16 bits, mm)\n"
  "  <scene>/pose/0.txt ...                (4 x 4, camera to world)\n"
  "  <scene>/intrinsic/intrinsic_depth.txt (or <scene>/intrinsics_depth.txt)\n"
  "  <scene>/label-filt/0.png ...          (or <scene>/label/; may be missing)",
)
RATE_HZ = 30.0
_LABELS = ("label-filt", "label")
_INTRINSICS = ("intrinsic/intrinsic_depth.txt", "intrinsics_depth.txt")


def load(
  path: str | pathlib.Path, *, classes: Mapping[int, int] | None = None, size: Size = None
) -> rgbd.Frames:
  """Returns the frames of a scene, or of all scenes of a folder, in order.

  Args:
    path: A scene, or a folder of scenes.
    classes: Ids of classes by those stored (0 there is unlabelled); None: those stored.
    size: (H, W) to squash frames to; None is the size of the depth image.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: A file is damaged; found when its turn comes.
  """
  root = user_path(path)
  scenes = [root]
  if not (root / "depth").is_dir():
    ABOUT.need(root)
    scenes = sorted(p for p in root.iterdir() if (p / "depth").is_dir())
  if not scenes:
    ABOUT.need(root / "<scene>" / "depth")
  for scene in scenes:
    ABOUT.need(scene / "color")
    _intrinsics_file(scene)
  return (frame for scene in scenes for frame in _frames(scene, classes, size))


def _intrinsics_file(scene: pathlib.Path) -> pathlib.Path:
  found = [scene / name for name in _INTRINSICS if (scene / name).is_file()]
  return found[0] if found else ABOUT.need(scene / _INTRINSICS[0])


def _frames(scene: pathlib.Path, classes: Mapping[int, int] | None, size: Size) -> rgbd.Frames:
  matrix = rgbd.read_numbers(_intrinsics_file(scene), 3, 4)
  camera = rgbd.intrinsics_of(matrix, f"ScanNet {scene.name}")
  colours, depths = rgbd.numbered(scene / "color"), rgbd.numbered(scene / "depth")
  labels = next((rgbd.numbered(scene / n) for n in _LABELS if (scene / n).is_dir()), {})
  first = min(depths, default=0)
  for number, path in depths.items():
    if number not in colours:
      continue
    stored = rgbd.read_ids(labels[number]) if number in labels else None
    pose = scene / "pose" / f"{path.stem}.txt"
    yield rgbd.make(
      f"{scene.name}/{path.stem}",
      rgbd.read_rgb(colours[number]),
      rgbd.read_ids(path) / 1000.0,
      camera,
      labels=None if stored is None else rgbd.mapped(stored, classes),
      pose=rgbd.pose_of(rgbd.read_numbers(pose, 3, 4)) if pose.is_file() else rgbd.NO_POSE,
      time_s=(number - first) / RATE_HZ,
      size=size,
    )
