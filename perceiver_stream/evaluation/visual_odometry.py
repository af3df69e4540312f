"""Visual odometry without learning: OpenCV's essential matrix and PnP, and paths of chained motions.

A motion is `T_source_target`, `[4, 4]`, of a frame (the target) and the one before it (the source).
Points are tracked by pyramidal Lucas-Kanade; OpenCV is imported by the functions that use it.

Source: the five-point method (Nister 2004) and PnP with RANSAC as OpenCV has them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_stream.utils.opencv import opencv
from perceiver_stream.utils.poses import Pose
from perceiver_stream.utils.poses import chained as chained

THRESHOLDS_PX = (0.1, 0.2, 0.3, 0.5, 1.0)  # of inliers, swept
MAX_POINTS = 400
FEWEST = 8  # tracks; with fewer there is no estimate, and the camera counts as at rest
_AGREEMENT_PX = 0.5  # of a track forward and back
_WINDOW_PX = 9

Frame = UInt8[np.ndarray, "H W 3"]


class Tracks(NamedTuple):
  """Points (x, y) in pixels, centres at halves, in the target and in the source."""

  target: Float[np.ndarray, "N 2"]
  source: Float[np.ndarray, "N 2"]


def tracks(target: Frame, source: Frame) -> Tracks:
  """Returns corners of the target with their places in the source, those that track back too."""
  cv2 = opencv()
  grey, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (target, source))
  corners = cv2.goodFeaturesToTrack(grey, MAX_POINTS, 0.003, 3)
  if corners is None:
    return Tracks(np.zeros((0, 2)), np.zeros((0, 2)))
  how = {"winSize": (_WINDOW_PX, _WINDOW_PX), "maxLevel": 2}
  there, found, _ = cv2.calcOpticalFlowPyrLK(grey, other, corners, None, **how)
  back, again, _ = cv2.calcOpticalFlowPyrLK(other, grey, there, None, **how)
  near = np.linalg.norm(back - corners, axis=-1)[:, 0] < _AGREEMENT_PX
  good = near & (found[:, 0] > 0) & (again[:, 0] > 0)
  # OpenCV counts the first pixel's centre as 0.
  return Tracks(*(x[good, 0].astype(np.float64) + 0.5 for x in (corners, there)))


def essential(
  pairs: Tracks,
  intrinsics: Float[np.ndarray, " 4"],
  threshold_px: float,
  length: float = 1.0,
  method: str = "RANSAC",
) -> Pose:
  """Returns the motion of an essential matrix; its translation has a length that is given.

  Args:
    pairs: Tracked points.
    intrinsics: (fx, fy, cx, cy) in pixels.
    threshold_px: Distance of an inlier from its epipolar line.
    length: Of the translation, which two views do not show.
    method: "RANSAC", "LMEDS" or "USAC_MAGSAC".
  """
  cv2, pose = opencv(), np.eye(4)
  if len(pairs.target) < FEWEST:
    return pose
  cv2.setRNGSeed(0)
  matrix = _camera(intrinsics)
  which = getattr(cv2, method)
  found, mask = cv2.findEssentialMat(*pairs, matrix, which, 0.999, threshold_px)
  if found is None or found.shape != (3, 3):
    return pose
  _, rotation, direction, _ = cv2.recoverPose(found, *pairs, matrix, mask=mask)
  pose[:3, :3], pose[:3, 3] = rotation, length * direction[:, 0]
  return pose


def pnp(
  pairs: Tracks,
  depth: Float[np.ndarray, "H W"],
  intrinsics: Float[np.ndarray, " 4"],
  threshold_px: float = 0.5,
) -> Pose:
  """Returns the motion of tracked points whose depth in the target is known.

  Args:
    pairs: Tracked points.
    depth: Of the target, metres; points without depth (0) are left out.
    intrinsics: (fx, fy, cx, cy) in pixels.
    threshold_px: Distance of an inlier from its projection.
  """
  cv2, pose = opencv(), np.eye(4)
  places = np.floor(pairs.target).astype(int)
  z = depth[places[:, 1], places[:, 0]].astype(np.float64)
  known = z > 0
  if known.sum() < FEWEST:
    return pose
  fx, fy, cx, cy = intrinsics
  x, y = (pairs.target[known] - [cx, cy]).T / [[fx], [fy]]
  points = np.stack([x, y, np.ones_like(x)], axis=-1) * z[known][:, None]
  seen, matrix = pairs.source[known], _camera(intrinsics)
  cv2.setRNGSeed(0)
  done, turn, shift, inliers = cv2.solvePnPRansac(
    points, seen, matrix, None, iterationsCount=200, reprojectionError=threshold_px
  )
  if not done or inliers is None or len(inliers) < FEWEST:
    return pose
  kept = inliers[:, 0]
  turn, shift = cv2.solvePnPRefineLM(points[kept], seen[kept], matrix, None, turn, shift)
  pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
  return pose


def motions_of(poses: Float[np.ndarray, "T 4 4"]) -> Float[np.ndarray, "T 4 4"]:
  """Returns the motion of each pose from the one before it; the first is the identity."""
  steps = np.linalg.inv(poses[:-1]) @ poses[1:]
  return np.concatenate([np.eye(4)[None], steps])


def as_poses(camera: Float[np.ndarray, "*T 12"]) -> Float[np.ndarray, "*T 4 4"]:
  """Returns matrices of poses `[..., 12]`, the first three rows, as streams have them."""
  upper = camera.astype(np.float64).reshape(*camera.shape[:-1], 3, 4)
  last = np.broadcast_to(np.asarray([0.0, 0.0, 0.0, 1.0]), (*camera.shape[:-1], 1, 4))
  return np.concatenate([upper, last], axis=-2)


def _camera(intrinsics: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
  fx, fy, cx, cy = (float(v) for v in intrinsics)
  return np.asarray([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
