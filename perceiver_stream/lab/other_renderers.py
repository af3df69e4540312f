"""Labelled depth of renderers other than `streams.rooms`: MuJoCo and ViZDoom.

Both need the extra `sim`. DHA is computed from their depth, intrinsics and camera pose, and labels are
the groups that exist in both worlds.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from perceiver_stream import streams
from perceiver_stream.lab.depth_segmentation import GROUP_NAMES, UNKNOWN, Scenes
from perceiver_stream.streams import depth_geometry, depth_sensor, mujoco, sim_doom, vizdoom
from perceiver_stream.streams.sim_scene import focal_px

FARTHEST_M = 10.0  # beyond it depth counts as missing and labels as unknown (sky, far corridors)
EYE_M = 41 / vizdoom.UNITS_PER_M  # of the player of Doom above its floor
FLOOR, WALL, OBJECT = (GROUP_NAMES.index(name) for name in ("floor", "wall", "object"))
_FLOOR_M = 0.03  # MuJoCo's floor is the plane at height 0


def encoded(
  depth: Float[np.ndarray, "H W"],
  labels: Int[np.ndarray, "H W"],
  intrinsics: Float[np.ndarray, " 4"],
  down: Float[np.ndarray, " 3"],
  above_m: float,
  sensor: str,
  rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "H W 3"], Int[np.ndarray, "H W"]]:
  """Returns DHA as float32, and labels that are `UNKNOWN` where the scene is too far.

  Args:
    depth: Exact depth in metres.
    labels: Groups.
    intrinsics: (fx, fy, cx, cy).
    down: Direction of gravity in camera axes.
    above_m: Height of the camera above the floor.
    sensor: "" for exact depth, or a key of `depth_sensor.SENSORS`.
    rng: Of its noise.
  """
  near = np.where(depth < FARTHEST_M, depth, 0.0).astype(np.float64)
  labels = np.where(near > 0, labels, UNKNOWN)
  if sensor:
    near = depth_sensor.read(sensor, near, intrinsics, rng)
  return depth_geometry.dha(near, intrinsics, down, above_m).astype(np.float32), labels


def sample_mujoco(
  count: int, *, height: int = 48, width: int = 64, sensor: str = "", seed: int = 0
) -> Scenes:
  """Returns views of MuJoCo's room with labels floor, wall (half a metre high) and object.

  Args:
    count: Number of views, ten of each room, a second apart.
    height: Rows.
    width: Columns.
    sensor: "" for exact depth, or a key of `depth_sensor.SENSORS`.
    seed: Of the rooms.
  """
  config = mujoco.Config(
    height=height,
    width=width,
    rate_hz=1.0,
    audio_rate_hz=0,
    ticks_per_recording=10,
    modalities=("depth", "segmentation", "camera"),
    max_ticks=count,
    seed=seed,
  )
  focal = focal_px(height)
  camera = np.asarray([focal, focal, width / 2, height / 2])
  rng, found = np.random.default_rng(seed), []
  for tick in streams.open_rows(config)[0]:
    down, above = _mujoco_gravity(tick["camera"])
    depth = tick["depth"].astype(np.float64)
    points = depth_geometry.backproject(depth, camera)
    heights = depth_geometry.height(points, down, above)
    room = np.where(heights < _FLOOR_M, FLOOR, WALL)
    labels = np.where(tick["segmentation"] > 0, OBJECT, room)
    found.append(encoded(depth, labels, camera, down, above, sensor, rng))
  return Scenes(*map(np.stack, zip(*found, strict=True)))


def _mujoco_gravity(pose: Any) -> tuple[Float[np.ndarray, " 3"], float]:
  """Returns down in camera axes (y down, z ahead) and the height of a camera of MuJoCo."""
  place, (w, x, y, z) = pose[:3].astype(np.float64), pose[3:].astype(np.float64)
  up = np.asarray([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])
  return up * [-1.0, 1.0, 1.0], float(place[2])


def sample_vizdoom(
  count: int, *, height: int = 48, width: int = 64, sensor: str = "", seed: int = 0
) -> Scenes:
  """Returns views of a walk through Doom: its labels give objects; all else is called wall.

  Args:
    count: Number of views, two a second.
    height: Rows.
    width: Columns.
    sensor: "" for exact depth (in the game's steps of 0.24 m), or a key of `depth_sensor.SENSORS`.
    seed: Of the walk.
  """
  config = vizdoom.Config(
    height=height,
    width=width,
    rate_hz=17.5,
    audio_rate_hz=0,
    modalities=("depth", "segmentation"),
    max_ticks=9 * count,
    seed=seed,
  )
  focal = sim_doom.focal_px((height, width))
  camera = np.asarray([focal, focal, width / 2, height / 2])
  rng, found, down = np.random.default_rng(seed), [], np.asarray([0.0, 1.0, 0.0])
  for number, tick in enumerate(streams.open_rows(config)[0]):
    if number % 9 == 0:
      labels = np.where(tick["segmentation"] > 0, OBJECT, WALL)
      found.append(encoded(tick["depth"], labels, camera, down, EYE_M, sensor, rng))
  return Scenes(*map(np.stack, zip(*found, strict=True)))
