"""One set of conventions: layers against simulators, flow, tracked points, samplers and OpenCV."""

import jax.numpy as jnp
import numpy as np
import pytest
from extras import need

from perceiver_stream import streams
from perceiver_stream.nn import local_motion, sample_bilinear
from perceiver_stream.nn.geometry import cameras, rotations, warps
from perceiver_stream.streams import depth_geometry, maze, mujoco, rooms, sim_scene, synthetic
from perceiver_stream.utils.opencv import opencv

FLIP = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z, y is up


def stacked(config):
  ticks = list(streams.open_rows(config)[0])
  return {name: np.stack([tick[name] for tick in ticks]) for name in ticks[0]}


def pinhole(height, width, focal):
  return np.asarray([focal, focal, width / 2, height / 2], np.float32)


def mujoco_poses(camera):
  """Returns camera-to-world matrices with our axes."""
  poses = np.tile(np.eye(4, dtype=np.float32), (len(camera), 1, 1))
  turn = rotations.from_quaternion(jnp.asarray(camera[:, 3:], jnp.float32))
  poses[:, :3, :3], poses[:, :3, 3] = np.asarray(turn) @ FLIP, camera[:, :3]
  return poses


@pytest.mark.parametrize(("name", "step"), [("flow", 1), ("flow_backward", -1)])
def test_the_flow_of_mujoco_is_that_of_its_depth_and_pose(name, step):
  need("mujoco")
  try:
    sim_scene.load_mujoco()
  except RuntimeError as error:
    pytest.skip(str(error))
  height, width = 48, 64
  names = ("depth", "segmentation", name, "camera")
  ticks = stacked(
    mujoco.Config(
      height=height, width=width, modalities=names, audio_rate_hz=0, num_things=2, max_ticks=5
    )
  )
  now = np.arange(1, 4)
  poses = mujoco_poses(ticks["camera"])
  relative = np.linalg.inv(poses[now + step]) @ poses[now]
  camera = np.tile(pinhole(height, width, sim_scene.focal_px(height)), (3, 1))
  flow = warps.rigid_flow(*map(jnp.asarray, (ticks["depth"][now], relative, camera)))
  room = ticks["segmentation"][now] == 0  # the rest moves by itself
  off = np.abs(np.asarray(flow) - ticks[name][now])[room]
  assert np.abs(ticks[name][now][room]).mean() > 0.1
  assert np.quantile(off, 0.99) < 0.02


def test_the_flow_of_rooms_carries_their_images_as_their_depth_and_pose_do():
  names = ("pixels", "depth", "flow", "camera")
  config = rooms.Config(height=48, width=64, modalities=names, max_ticks=4, level="easy")
  ticks = stacked(config)
  camera = np.tile(rooms.intrinsics(config), (3, 1))
  poses = np.tile(np.eye(4), (4, 1, 1))
  poses[:, :3] = ticks["camera"].reshape(4, 3, 4)
  relative = np.linalg.inv(poses[1:]) @ poses[:-1]
  after = jnp.asarray(ticks["pixels"][1:].astype(np.float32) / 255)
  arrays = (jnp.asarray(x, jnp.float32) for x in (ticks["depth"][:-1], relative, camera))
  by_pose, landing = warps.warp_rigid(after, *arrays, "edge")
  by_flow = warps.warp_flow(after, jnp.asarray(ticks["flow"][:-1]))
  inside = np.asarray(landing.inside)
  np.testing.assert_allclose(np.asarray(by_pose)[inside], np.asarray(by_flow)[inside], atol=2e-3)
  points = cameras.backproject(
    jnp.asarray(ticks["depth"][:1]), jnp.asarray(camera[:1], jnp.float32)
  )
  mine = depth_geometry.backproject(ticks["depth"][0].astype(float), camera[0])
  np.testing.assert_allclose(points[0], mine, rtol=1e-4, atol=1e-5)


def test_tracked_points_move_with_the_flow_sampled_at_them():
  names = ("pixels", "flow", "points", "points_visible", "points_id")
  ticks = stacked(synthetic.Config(height=48, width=64, modalities=names, max_ticks=6, noise=0.0))
  flow, places = jnp.asarray(ticks["flow"][:-1]), jnp.asarray(ticks["points"], jnp.float32)
  moved = np.asarray(warps.sample(flow, places[:-1]) + places[:-1])
  both = ticks["points_visible"][:-1] & ticks["points_visible"][1:]
  both &= ticks["points_id"][:-1] == ticks["points_id"][1:]
  off = np.linalg.norm(moved - ticks["points"][1:], axis=-1)[both]
  still = np.linalg.norm(np.diff(ticks["points"], axis=0), axis=-1)[both]
  assert np.median(off) < min(0.02, 0.1 * np.median(still))
  frames = jnp.asarray(ticks["pixels"].astype(np.float32) / 255)
  made = np.asarray(warps.warp_flow(frames[1:], flow))
  assert np.abs(made - frames[:-1]).mean() < 0.5 * np.abs(frames[1:] - frames[:-1]).mean()


def test_matched_motion_points_to_the_image_before():
  rng = np.random.default_rng(0)
  texture = np.asarray(local_texture(rng))
  before, last = texture[:, 4:36, 4:36], texture[:, 4:36, 3:35]  # moved to the right by a pixel
  flow = local_motion(jnp.asarray(before), jnp.asarray(last))[..., :2]
  np.testing.assert_allclose(np.median(flow, axis=(0, 1, 2)), [-1, 0], atol=0.05)
  made = np.asarray(warps.warp_flow(jnp.asarray(before), flow))
  assert np.abs(made - last)[:, 4:-4, 4:-4].mean() < 0.2 * np.abs(before - last).mean()


def local_texture(rng):
  """Returns a smooth random image, `[1, 40, 40, 3]`."""
  coarse = jnp.asarray(rng.random((1, 12, 12, 3)), jnp.float32)
  rows, columns = np.meshgrid(np.linspace(0, 11, 40), np.linspace(0, 11, 40), indexing="ij")
  return sample_bilinear(coarse, jnp.asarray(rows)[None], jnp.asarray(columns)[None])


def test_projection_through_a_lens_is_that_of_opencv():
  cv2 = opencv()
  rng = np.random.default_rng(0)
  points = rng.uniform([-1, -1, 2], [1, 1, 4], (30, 3))
  lens = np.asarray([0.1, -0.05, 0.002, -0.001, 0.01])
  fx, fy, cx, cy = 60.0, 62.0, 33.0, 23.5
  ours = cameras.distort(
    jnp.asarray(points[None, :, :2] / points[None, :, 2:], jnp.float32),
    jnp.asarray(lens[None], jnp.float32),
  )
  # OpenCV counts the first pixel's centre as 0.
  matrix = np.asarray([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
  theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, lens)
  mine = np.asarray(ours[0]) * [fx, fy] + [cx, cy]
  np.testing.assert_allclose(mine, theirs[:, 0] + 0.5, atol=1e-3)


def test_the_depth_of_the_maze_is_along_the_optical_axis():
  """A straight wall is a plane: its inverse depth is linear in x."""
  config = maze.Config(height=24, width=32, max_ticks=20)
  ticks = stacked(config)
  row, labels = 1 / ticks["depth"][:, 12], ticks["segmentation"][:, 12]
  bend = np.abs(np.diff(row, 2, axis=1))
  same = (labels[:, 2:] == labels[:, 1:-1]) & (labels[:, 1:-1] == labels[:, :-2])
  assert np.median(bend[same]) < 1e-3 * np.median(row)
