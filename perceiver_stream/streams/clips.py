"""Clips as MOVi and TAP-Vid-Kubric store them, to ticks in our units. Numpy only.

  video                  uint8 [T, H, W, 3]
  depth                  uint16 [T, H, W, 1], of metadata/depth_range; distance to the camera's centre
  forward_flow           uint16 [T, H, W, 2], of metadata/forward_flow_range; rows, then columns
  backward_flow          likewise
  segmentations          uint8 [T, H, W, 1]
  camera/positions       [T, 3]; camera/quaternions [T, 4] (w first)
  camera/focal_length    with camera/sensor_width: depth is then given along the optical axis
  target_points          [N, T, 2] (x, y) pixels; occluded [N, T]

Source: Greff et al. 2022, 2203.03570, challenges/movi of its code; Doersch et al. 2022, 2211.03726.
"""

from collections.abc import Mapping
from typing import Any

import av
import numpy as np

from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.image_files import nearest, pose_matrix, scaled_size
from perceiver_stream.streams.picker import Picker

FEATURES: dict[str, tuple[str, ...]] = {
  "pixels": ("video",),
  "depth": ("depth", "metadata/depth_range"),
  "flow": ("forward_flow", "metadata/forward_flow_range"),
  "flow_backward": ("backward_flow", "metadata/backward_flow_range"),
  "segmentation": ("segmentations",),
  "camera": ("camera/positions", "camera/quaternions"),
  "points": ("target_points", "occluded"),
}
OPTIONAL = ("camera/focal_length", "camera/sensor_width")
POINTS = ("points", "points_visible", "points_id")  # always together
Clip = dict[str, tuple[np.ndarray, np.ndarray]]  # by modality: values [T, ...], validity [T]


def features_of(modalities: tuple[str, ...]) -> tuple[str, ...]:
  """Returns the stored features that modalities are made of."""
  needed = [feature for name in modalities for feature in FEATURES.get(name, ())]
  return tuple(dict.fromkeys(["video", *needed]))


def make_clip(stored: Mapping[str, np.ndarray], config: Any, where: str) -> Clip:
  """Returns the spec of each modality of a tick.

  Args:
    stored: Features by name.
    config: With `modalities`, `height`, `width`, `crop`, `num_points` and `flow_order`.
    where: Names the record in messages.

  Raises:
    DamagedError: A feature is not there, or not of the clip's length and size.
  """
  missing = [name for name in features_of(config.modalities) if name not in stored]
  if missing:
    raise DamagedError(
      f"{where} has no {missing}; leave their modalities out of {config.modalities}."
    )
  length, height, width = stored["video"].shape[:3]
  for name in ("depth", "forward_flow", "backward_flow", "segmentations"):
    if name in stored and stored[name].shape[:3] != (length, height, width):
      raise DamagedError(
        f"{where}: {name} is {stored[name].shape}, expected as many ticks and pixels as video "
        f"{stored['video'].shape}."
      )
  source, size = (height, width), (config.height, config.width)
  rows, columns = nearest(source, size, config.crop)
  zoom = np.divide(scaled_size(source, size, config.crop), source)
  clip: Clip = {}
  always, last = np.ones(length, bool), np.arange(length) == length - 1
  for name in config.modalities:
    valid = always
    if name == "pixels":
      picker = Picker(*size, config.crop)
      frames = (
        av.VideoFrame.from_ndarray(np.ascontiguousarray(f), "rgb24") for f in stored["video"]
      )
      value = np.stack([picker(frame) for frame in frames])
    elif name == "depth":
      value = _depth(stored, rows, columns)
    elif name in ("flow", "flow_backward"):
      feature = FEATURES[name][0]
      value = _ranged(stored, feature)[:, rows][:, :, columns]
      value = (value[..., ::-1] if config.flow_order == "yx" else value) * zoom[::-1].astype("f4")
      valid = ~last if name == "flow" else ~last[::-1]
    elif name == "segmentation":
      value = stored["segmentations"][:, rows][:, :, columns, 0].astype(np.int32)
    elif name == "camera":
      turn = np.roll(stored["camera/quaternions"].astype(float), -1, -1)
      value = pose_matrix(stored["camera/positions"].astype(float), turn)
    else:
      value = _points(stored, config, zoom)[name]
    clip[name] = (np.ascontiguousarray(value), valid)
  return clip


def _ranged(stored: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  low, high = np.asarray(stored[f"metadata/{name}_range"], np.float32)
  return stored[name].astype(np.float32) * ((high - low) / np.float32(65535)) + low


def _depth(stored: Mapping[str, np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
  depth = _ranged(stored, "depth")[:, rows][:, :, columns, 0]
  if any(name not in stored for name in OPTIONAL):
    return depth
  height, width = stored["video"].shape[1:3]
  pixel = float(stored["camera/sensor_width"] / stored["camera/focal_length"]) / width
  x, y = (columns + 0.5 - width / 2) * pixel, (rows + 0.5 - height / 2) * pixel
  ray = np.sqrt(1 + x[None, :] ** 2 + y[:, None] ** 2).astype(np.float32)
  return depth / ray[None]


def _points(
  stored: Mapping[str, np.ndarray], config: Any, zoom: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns the first `num_points` tracks; slots that stay empty are never visible."""
  num = min(config.num_points, len(stored["target_points"]))
  length, height, width = stored["video"].shape[:3]
  size = np.array([config.width, config.height])
  cut = (
    np.array(scaled_size((height, width), (config.height, config.width), config.crop)) - size[::-1]
  ) // 2
  points = np.zeros((length, config.num_points, 2), np.float32)
  points[:, :num] = np.swapaxes(stored["target_points"][:num], 0, 1) * zoom[::-1] - cut[::-1]
  visible = np.zeros((length, config.num_points), bool)
  visible[:, :num] = ~stored["occluded"][:num].astype(bool).T
  visible &= ((points >= 0) & (points <= size)).all(-1)
  ids = np.tile(np.arange(config.num_points, dtype=np.int32), (length, 1))
  return {"points": points, "points_visible": visible, "points_id": ids}
