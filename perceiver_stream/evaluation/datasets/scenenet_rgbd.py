"""SceneNet RGB-D: rendered trajectories through synthetic rooms with depth, instances and poses.

Depth is stored as the length of each ray in millimetres and becomes depth along the optical axis; 0 is
unknown. The description (`scenenet_rgbd_*.pb`) is read without generated code.

Source: McCormac et al. 2017, arXiv 1612.05079; fields, camera and units as jmccormac/pySceneNetRGBD
(GPL, read only) states them. Poses are half way between opening and closing of the shutter.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from perceiver_stream.evaluation.datasets import rgbd
from perceiver_stream.evaluation.datasets.base import UNKNOWN, About
from perceiver_stream.evaluation.datasets.files import Size
from perceiver_stream.files import limits, protobuf
from perceiver_stream.files.limits import inside
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "SceneNet RGB-D",
  'the page "SceneNet RGB-D: 5M Photorealistic Images" (terms of its page; the code is GPL)',
  "  scenenet_rgbd_<split>.pb (or train_protobufs/scenenet_rgbd_train_0.pb: protobuf=)\n"
  "  <split>/0/0/photo/0.jpg, depth/0.png (16 bits, mm along the ray), instance/0.png",
)
FIELD_OF_VIEW_DEG = (60.0, 45.0)  # across and down; the paper's 40 is a typing error
_MAX_BYTES = 2**30
_MAX_ENTRIES = 10**5  # views and instances of a trajectory; released ones have 300 views
_MAX_MESSAGE_BYTES = 2**16  # of a view or an instance
_TRAJECTORY, _INSTANCE, _VIEW, _RENDER_PATH = 1, 2, 3, 4


def load(
  path: str | pathlib.Path,
  *,
  split: str = "val",
  protobuf_file: str = "",
  classes: Mapping[str, int] | None = None,
  size: Size = None,
) -> rgbd.Frames:
  """Returns the frames of all trajectories, in the order of the description.

  Args:
    path: The folder that holds the description and the folder of the split.
    split: "val", or "train" with the folder of its parts.
    protobuf_file: The description, inside `path`; empty is `scenenet_rgbd_<split>.pb`.
    classes: Ids of classes by WordNet's numbers ("04379243" is a table), others are `UNKNOWN`; None
      leaves the numbers of instances.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: The description or an image is damaged; found when its turn comes.
  """
  root = user_path(path)
  described = ABOUT.need(inside(root, protobuf_file or f"scenenet_rgbd_{split}.pb"))
  images = ABOUT.need(inside(root, split))
  return _all(described, images, classes, size)


def _all(
  described: pathlib.Path, images: pathlib.Path, classes: Mapping[str, int] | None, size: Size
) -> rgbd.Frames:
  where = str(described)
  data = memoryview(limits.read_bytes(described, _MAX_BYTES))
  for number, trajectory in protobuf.fields(data, where):
    if number == _TRAJECTORY and isinstance(trajectory, memoryview):
      yield from _trajectory(trajectory, where, images, classes, size)


def _trajectory(
  data: memoryview,
  where: str,
  images: pathlib.Path,
  classes: Mapping[str, int] | None,
  size: Size,
) -> rgbd.Frames:
  name, table, views = "", {}, []
  for number, value in protobuf.fields(data, where):
    if number == _RENDER_PATH:
      name = protobuf.text(value)
    elif number == _INSTANCE and classes is not None:
      instance, wordnet = _instance(value, where)
      table[instance] = classes.get(wordnet, UNKNOWN)
    elif number == _VIEW:
      views.append(value)
    if len(views) + len(table) > _MAX_ENTRIES:
      raise limits.RefusedError(
        f"{where} refused: a trajectory of more than {_MAX_ENTRIES} entries."
      )
  folder, start = inside(images, name), None
  for view in views:
    frame, time, pose = _view(view, where)
    start = time if start is None else start
    ids = rgbd.read_ids(folder / "instance" / f"{frame}.png")
    yield rgbd.make(
      f"{name}/{frame}",
      rgbd.read_rgb(folder / "photo" / f"{frame}.jpg"),
      *_depth(rgbd.read_ids(folder / "depth" / f"{frame}.png")),
      labels=rgbd.mapped(ids, table if classes is not None else None),
      pose=pose,
      time_s=time - start,
      size=size,
    )


def _instance(data: protobuf.Value, where: str) -> tuple[int, str]:
  found = _message(data, where)
  return int(_number(found.get(1, 0), where)), protobuf.text(found.get(2, memoryview(b"")))


def _message(data: protobuf.Value, where: str) -> dict[int, protobuf.Value]:
  """Returns the fields of a message by number, the last of each."""
  if not isinstance(data, memoryview):
    raise ValueError(f"{where}: a number where a message is expected; it is damaged.")
  if len(data) > _MAX_MESSAGE_BYTES:
    raise limits.RefusedError(
      f"{where} refused: a message of {len(data)} bytes inside a trajectory."
    )
  return dict(protobuf.fields(data, where))


def _view(data: protobuf.Value, where: str) -> tuple[int, float, Float[np.ndarray, "4 4"]]:
  """Returns the number of a frame, its time in seconds, and its pose."""
  found = _message(data, where)
  times, places, targets = [], [], []
  for shutter in (2, 3):
    pose = _message(found.get(shutter, memoryview(b"")), where)
    places.append(_position(pose.get(1, memoryview(b"")), where))
    targets.append(_position(pose.get(2, memoryview(b"")), where))
    times.append(_number(pose.get(3, 0.0), where))
  place, target = np.mean(places, axis=0), np.mean(targets, axis=0)
  return int(_number(found.get(1, 0), where)), float(np.mean(times)), look_at(place, target)


def _number(value: protobuf.Value, where: str) -> float:
  if isinstance(value, memoryview):
    raise ValueError(f"{where}: a message where a number is expected; it is damaged.")
  return rgbd.finite(float(value), where)


def _position(data: protobuf.Value, where: str) -> Float[np.ndarray, " 3"]:
  found = _message(data, where)
  return np.asarray([_number(found.get(axis, 0.0), where) for axis in (1, 2, 3)])


def look_at(
  place: Float[np.ndarray, " 3"], target: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "4 4"]:
  """Returns the pose, camera to world, of a camera that looks at a point; the world's y is up.

  NaN where the direction is undefined or vertical.
  """
  ahead = target - place
  right = np.cross(ahead, [0.0, 1.0, 0.0])
  lengths = np.linalg.norm(ahead), np.linalg.norm(right)
  if not min(lengths) > 0:
    return rgbd.NO_POSE
  ahead, right = ahead / lengths[0], right / lengths[1]
  return rgbd.pose_of(np.stack([right, np.cross(ahead, right), ahead, place], axis=1))


def _depth(
  stored: np.ndarray,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, " 4"]]:
  """Returns depth along the optical axis in metres, and the intrinsics of its size."""
  height, width = stored.shape
  half = np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2)
  camera = np.asarray([width / 2 / half[0], height / 2 / half[1], width / 2, height / 2])
  x = (np.arange(width) + 0.5 - camera[2]) / camera[0]
  y = (np.arange(height)[:, None] + 0.5 - camera[3]) / camera[1]
  return stored / 1000.0 / np.sqrt(1 + x * x + y * y), camera
