"""Fitting depth and motion of a short video: better than a camera at rest, exact where it is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.evaluation import visual_odometry
from perceiver_stream.nn.geometry import scene_fitting
from perceiver_stream.streams import rooms

SIZE = {"height": 32, "width": 48}


@pytest.fixture(scope="module")
def video():
  config = rooms.Config(
    **SIZE, modalities=("pixels", "depth", "camera"), max_ticks=6, level="easy", seed=1
  )
  ticks = list(streams.open_rows(config)[0])
  return rooms.intrinsics(config), {k: np.stack([t[k] for t in ticks]) for k in config.modalities}


def angles(motions):
  trace = np.trace(motions[:, :3, :3], axis1=1, axis2=2)
  return np.arccos(np.clip((trace - 1) / 2, -1, 1))


def test_true_depth_and_motion_have_a_small_error_and_a_camera_at_rest_has_not(video):
  camera, ticks = video
  images = jnp.asarray(ticks["pixels"], jnp.float32) / 255
  depth = jnp.asarray(ticks["depth"], jnp.float32)
  motions = visual_odometry.motions_of(visual_odometry.as_poses(ticks["camera"]))[1:]
  cameras = jnp.broadcast_to(jnp.asarray(camera, jnp.float32), (5, 4))
  still = np.broadcast_to(np.eye(4), motions.shape)
  errors = [
    float(scene_fitting.photometric_error(images, depth, jnp.asarray(m, jnp.float32), cameras))
    for m in (motions, still)
  ]
  assert errors[0] < 0.6 * errors[1]


def test_a_fit_lowers_the_error_and_finds_the_turn_of_the_camera(video):
  camera, ticks = video
  found = scene_fitting.fit(ticks["pixels"], camera, scene_fitting.Config(steps=80))
  assert found.depth.shape == ticks["depth"].shape and (found.depth > 0).all()
  assert found.errors.shape == (80,) and found.errors[-1] < 0.6 * found.errors[0]
  np.testing.assert_array_equal(found.poses[0], np.eye(4))
  truth = visual_odometry.motions_of(visual_odometry.as_poses(ticks["camera"]))[1:]
  mine = visual_odometry.motions_of(found.poses)[1:]
  error = angles(np.linalg.inv(truth) @ mine)
  assert np.mean(error) < 0.6 * np.mean(angles(truth))


def test_the_grid_is_read_bilinearly_and_keeps_a_constant():
  grid = jnp.full((2, 3, 4), np.log(0.5))
  found = scene_fitting.inverse_depth(grid, 9, 13, 4)
  assert found.shape == (2, 9, 13)
  np.testing.assert_allclose(found, 0.5, rtol=1e-6)
  ramp = jnp.broadcast_to(jnp.arange(4.0), (1, 3, 4))
  row = np.log(np.asarray(scene_fitting.inverse_depth(ramp, 12, 16, 4)))[0, 0]
  np.testing.assert_allclose(row[2:14], (np.arange(2, 14) + 0.5) / 4 - 0.5, atol=1e-6)


def test_two_frames_are_too_few():
  with pytest.raises(ValueError, match="2 frames; a fit needs at least 3"):
    scene_fitting.fit(np.zeros((2, 8, 8, 3), np.uint8), np.ones(4))
