"""Label propagation as a method of `evaluation.scoring`: masks and joints propagated by features.

Source: see `metrics.label_propagation`; the settings of each data set are in `SETTINGS`.
"""

import numpy as np
from jaxtyping import Int32

from perceiver_stream.evaluation.metrics import label_propagation
from perceiver_stream.evaluation.metrics.label_propagation import Settings
from perceiver_stream.evaluation.probes.watching import Features, Video
from perceiver_stream.evaluation.scoring import JointMethod, MaskMethod

SETTINGS = {
  "davis": Settings(top_k=7),
  "vip": Settings(top_k=10),
  "jhmdb": Settings(top_k=7),
  # On a 16×16 grid; radii are in cells.
  "synthetic": Settings(top_k=7, radius=6.0),
}


def mask_method(features: Features, settings: Settings = SETTINGS["synthetic"]) -> MaskMethod:
  """Returns a method that propagates the first mask by similarity of features."""

  def method(frames: Video, first: Int32[np.ndarray, "H W"]) -> Int32[np.ndarray, "T H W"]:
    found = features(frames)
    grid, patch = found.shape[1:3], frames.shape[1] // found.shape[1]
    labels, ids = label_propagation.masks_to_labels(first, grid, patch)
    handed = label_propagation.propagate(found, labels, settings)
    return label_propagation.labels_to_masks(handed, ids, first.shape, patch).astype(np.int32)

  return method


def joint_method(features: Features, settings: Settings = SETTINGS["synthetic"]) -> JointMethod:
  """Returns a method that propagates the first frame's joints by similarity of features."""

  def method(frames: Video, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, size = features(frames), frames.shape[1:3]
    labels = label_propagation.pose_to_labels(first, found.shape[1:3], size)
    handed = label_propagation.propagate(found, labels, settings)
    return label_propagation.labels_to_pose(handed, size)

  return method


def ceiling(masks: Int32[np.ndarray, "T H W"], grid: tuple[int, int]) -> Int32[np.ndarray, "T H W"]:
  """Returns true masks after passing through a grid: the upper bound for any features."""
  patch, through = masks.shape[1] // grid[0], []
  for mask in masks:
    labels, ids = label_propagation.masks_to_labels(mask, grid, patch)
    through.append(label_propagation.labels_to_masks(labels[None], ids, mask.shape, patch)[0])
  return np.stack(through).astype(np.int32)
