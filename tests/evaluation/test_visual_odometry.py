"""Odometry by OpenCV against exact matches, and on rendered rooms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from perceiver_stream import streams
from perceiver_stream.evaluation import visual_odometry as vo
from perceiver_stream.streams import rooms

CAMERA = np.asarray([80.0, 82.0, 49.0, 37.0])


def motion(seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  pose = np.eye(4)
  pose[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()
  pose[:3, 3] = rng.normal(0, 0.1, 3)
  return pose


def scene(pose: np.ndarray, num: int = 80) -> tuple[vo.Tracks, np.ndarray]:
  """Returns exact matches of random points, one a pixel, and the target's depth."""
  rng = np.random.default_rng(1)
  depth = np.zeros((74, 98))
  pixels = np.stack(np.unravel_index(rng.choice(depth.size, num, False), depth.shape), -1)[:, ::-1]
  z = rng.uniform(1, 5, num)
  depth[pixels[:, 1], pixels[:, 0]] = z
  fx, fy, cx, cy = CAMERA
  places = pixels + 0.5
  points = np.column_stack([(places - [cx, cy]) / [fx, fy] * z[:, None], z])
  moved = points @ pose[:3, :3].T + pose[:3, 3]
  return vo.Tracks(places, moved[:, :2] / moved[:, 2:] * [fx, fy] + [cx, cy]), depth


@pytest.mark.parametrize("seed", range(3))
def test_exact_matches_give_the_motion(seed):
  truth = motion(seed)
  pairs, depth = scene(truth)
  np.testing.assert_allclose(vo.pnp(pairs, depth, CAMERA), truth, atol=1e-6)
  length = float(np.linalg.norm(truth[:3, 3]))
  for method in ("RANSAC", "USAC_MAGSAC"):
    found = vo.essential(pairs, CAMERA, 0.1, length, method)
    np.testing.assert_allclose(found, truth, atol=1e-3)


def test_too_few_matches_are_no_motion():
  pairs, depth = scene(motion(), 5)
  np.testing.assert_array_equal(vo.pnp(pairs, depth, CAMERA), np.eye(4))
  np.testing.assert_array_equal(vo.essential(pairs, CAMERA, 0.5), np.eye(4))
  flat = np.full((32, 32, 3), 90, np.uint8)
  assert len(vo.tracks(flat, flat).target) == 0


def test_chains_undo_motions():
  poses = np.stack([motion(seed) for seed in range(4)])
  poses[0] = np.eye(4)
  np.testing.assert_allclose(vo.chained(vo.motions_of(poses)), poses, atol=1e-12)
  flat = poses[:, :3].reshape(4, 12)
  np.testing.assert_array_equal(vo.as_poses(flat), poses)


def test_depth_makes_better_motions_of_tracks_in_a_room():
  config = rooms.Config(
    height=96, width=128, modalities=("pixels", "depth", "camera"), max_ticks=9, seed=7
  )
  ticks = list(streams.open_rows(config)[0])
  poses = vo.as_poses(np.stack([tick["camera"] for tick in ticks]))
  truth, camera = vo.motions_of(poses), rooms.intrinsics(config)
  errors = {"pnp": [], "essential": [], "identity": []}
  for i in range(1, len(ticks)):
    pairs = vo.tracks(ticks[i]["pixels"], ticks[i - 1]["pixels"])
    length = float(np.linalg.norm(truth[i, :3, 3]))
    found = {
      "pnp": vo.pnp(pairs, ticks[i]["depth"], camera),
      "essential": vo.essential(pairs, camera, 0.1, length),
      "identity": np.eye(4),
    }
    for name, pose in found.items():
      errors[name].append(np.linalg.norm(pose[:3, 3] - truth[i, :3, 3]) / length)
  means = {name: np.mean(values) for name, values in errors.items()}
  assert means["pnp"] < 0.3 and means["pnp"] < means["essential"] and means["identity"] == 1
