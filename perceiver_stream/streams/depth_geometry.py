"""Geometry of a scene from depth alone: points, normals, gravity, and DHA (depth, height, angle).

numpy; camera axes x right, y down, z ahead; pixel centres at j + 0.5, i + 0.5.

Source: DHA of SceneNet (Handa et al. 2016, 1511.07041); gravity after Gupta, Arbelaez and Malik
2013, as remembered: our reading.
"""

import numpy as np
from jaxtyping import Bool, Float

Depth = Float[np.ndarray, "H W"]
Points = Float[np.ndarray, "H W 3"]


def backproject(depth: Depth, intrinsics: Float[np.ndarray, " 4"]) -> Points:
  """Returns the point of every pixel in camera coordinates; (0, 0, 0) where depth is 0."""
  fx, fy, cx, cy = (float(v) for v in intrinsics)
  rows, columns = np.indices(depth.shape)
  return np.stack(
    [depth * (columns + 0.5 - cx) / fx, depth * (rows + 0.5 - cy) / fy, depth], axis=-1
  )


def _slope(points: Points, axis: int) -> tuple[Points, Bool[np.ndarray, "H W"]]:
  """Returns central differences, one-sided at the border, and the mask of valid ones."""
  known = points[..., 2] > 0
  last = points.shape[axis] - 1
  index = np.arange(last + 1)
  before, after = np.maximum(index - 1, 0), np.minimum(index + 1, last)
  step = (after - before).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
  slope = (points.take(after, axis) - points.take(before, axis)) / np.maximum(step, 1)
  return slope, known & known.take(after, axis) & known.take(before, axis)


def _angle(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Returns the angle between vectors in radians, exact at 0 and pi too."""
  across = np.linalg.norm(np.cross(one, other), axis=-1)
  return np.arctan2(across, np.sum(one * other, axis=-1))


def normals(points: Points) -> tuple[Points, Bool[np.ndarray, "H W"]]:
  """Returns unit normals that face the camera, and the mask of valid ones (others are 0)."""
  (across, known_x), (down, known_y) = _slope(points, 1), _slope(points, 0)
  normal = np.cross(across, down)
  length = np.linalg.norm(normal, axis=-1)
  known = known_x & known_y & (length > 0)
  normal = normal / np.where(known, length, 1.0)[..., None]
  away = np.sum(normal * points, axis=-1) > 0
  normal = np.where(away[..., None], -normal, normal)
  return np.where(known[..., None], normal, 0.0), known


def incidence(points: Points) -> tuple[Depth, Bool[np.ndarray, "H W"]]:
  """Returns the angle between the normal and the ray to the camera in radians, and a validity mask."""
  normal, known = normals(points)
  return np.where(known, _angle(normal, -points), 0.0), known


def gravity(
  normal: Points, known: Bool[np.ndarray, "H W"], start: tuple[float, float, float] = (0, 1, 0)
) -> Float[np.ndarray, "10 3"]:
  """Returns ten iterates of the direction of gravity (down), the last the best.

  Each step splits the normals into those nearly along the direction (floors, ceilings) and those
  nearly across it (walls), within 45 degrees in the first five steps and 15 in the last five, and
  takes the direction that is most along the former and least along the latter.
  """
  vectors, down = normal[known], np.asarray(start, np.float64)
  found = []
  for degrees in (45,) * 5 + (15,) * 5:
    size = np.abs(vectors @ down)
    along = vectors[size > np.cos(np.deg2rad(degrees))]
    across = vectors[size < np.sin(np.deg2rad(degrees))]
    down = np.linalg.eigh(across.T @ across - along.T @ along)[1][:, 0]
    down = -down if down[1] < 0 else down
    found.append(down)
  return np.stack(found)


def height(
  points: Points, down: Float[np.ndarray, " 3"], camera_height_m: float | None = None
) -> Depth:
  """Returns metres above the ground; 0 where the point is unknown.

  The ground is `camera_height_m` below the camera, or, if that is None, the 99th percentile of what
  is lowest.
  """
  known = points[..., 2] > 0
  below = points @ down
  ground = np.percentile(below[known], 99) if camera_height_m is None else camera_height_m
  return np.where(known, ground - below, 0.0)


def dha(
  depth: Depth,
  intrinsics: Float[np.ndarray, " 4"],
  down: Float[np.ndarray, " 3"],
  camera_height_m: float | None = None,
) -> Float[np.ndarray, "H W 3"]:
  """Returns depth (m), height above ground (m), and the angle of the normal with up (degrees).

  Floors have angle 0, walls 90, ceilings 180; where there is no normal the angle is 0.
  """
  points = backproject(depth, intrinsics)
  normal, known = normals(points)
  angle = np.rad2deg(_angle(normal, -np.asarray(down)))
  channels = [depth, height(points, down, camera_height_m), np.where(known, angle, 0.0)]
  return np.stack(channels, axis=-1)
