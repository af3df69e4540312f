"""Sensor noise and DHA: stored references, and properties at other sizes."""

import json
import pathlib

import numpy as np
import pytest
from golden import files

from perceiver_stream.streams import depth_geometry, depth_sensor

FILES = files("depth_noise", pathlib.Path)
INTRINSICS = np.asarray([40.0, 40.0, 24.0, 18.0])


@pytest.mark.parametrize("path", FILES)
def test_equal_to_the_stored_reference(path):
  about = json.loads(path.read_text())
  with np.load(path.with_suffix(".npz")) as file:
    golden = dict(file)

  def same(name, actual):
    np.testing.assert_allclose(actual, golden[name], atol=about["suggested_atol"], err_msg=name)

  p = about["parameters"]
  config = depth_sensor.KinectConfig(
    sigma_shift=p["sigma_shift"],
    steps_per_px=p["disparity_steps_per_px"],
    edge_window=p["edge_window"],
    edge_threshold_px=p["edge_threshold_px"],
    edge_drop=p["edge_drop_probability"],
    max_incidence_deg=p["max_incidence_deg"],
    min_m=p["min_m"],
    max_m=p["max_m"],
    constant=float(p["kinect_constant"]),
    sigma_disparity=p["sigma_disparity"],
  )
  draws = depth_sensor.Draws(*(golden[f"draws/{n}"] for n in ("shift", "disparity", "drop")))
  camera = golden["intrinsics"]
  read = depth_sensor.kinect(golden["depth"], camera, float(golden["baseline_m"]), draws, config)
  same("kinect/noisy_depth", read.depth)
  for name in read._fields[1:]:
    same(f"kinect/{name}", getattr(read, name))
  slant, _ = depth_geometry.incidence(depth_geometry.backproject(golden["depth"], camera))
  slant = np.minimum(slant, np.deg2rad(p["max_incidence_deg"]))
  same("nguyen/incidence_rad", slant)
  axial, lateral = depth_sensor.nguyen_sigmas(golden["depth"], slant)
  same("nguyen/sigma_axial_m", axial)
  same("nguyen/sigma_lateral_px", lateral)
  noisy = depth_sensor.nguyen(
    golden["depth"], camera, golden["draws/lateral"], golden["draws/axial"]
  )
  same("nguyen/noisy_depth", noisy)
  down, above = golden["gravity/true"], float(golden["gravity/camera_height_m"])
  for prefix, depth in (
    ("dha_clean", golden["depth"]),
    ("dha_noisy", golden["kinect/noisy_depth"]),
  ):
    points = depth_geometry.backproject(depth, camera)
    normals, known = depth_geometry.normals(points)
    channels = depth_geometry.dha(depth, camera, down, above)
    same(f"{prefix}/points", points)
    same(f"{prefix}/normals", normals)
    same(f"{prefix}/normals_valid", known)
    same(f"{prefix}/height_m", channels[..., 1])
    # The reference takes the arc cosine, which loses half of its digits at 0 and 180 degrees.
    cosines = [np.cos(np.deg2rad(a)) for a in (channels[..., 2], golden[f"{prefix}/angle_deg"])]
    np.testing.assert_allclose(*cosines, atol=about["suggested_atol"])
    np.testing.assert_allclose(channels[..., 2], golden[f"{prefix}/angle_deg"], atol=1e-5)
    same(f"{prefix}/height_from_lowest_m", depth_geometry.height(points, down))
  normals, known = depth_geometry.normals(depth_geometry.backproject(golden["depth"], camera))
  same("gravity/estimates", depth_geometry.gravity(normals, known))


def room(height: int = 36, width: int = 48) -> np.ndarray:
  """Returns the depth of a floor 1.2 m below the camera and a wall 3 m ahead."""
  rows = np.arange(height)[:, None] + 0.5
  down = (rows - INTRINSICS[3]) / INTRINSICS[1]
  floor = np.where(down > 0, 1.2 / np.where(down > 0, down, 1.0), np.inf)
  return np.broadcast_to(np.minimum(floor, 3.0), (height, width)).copy()


def test_equal_draws_give_equal_depth_and_others_do_not():
  draws = [depth_sensor.draw(np.random.default_rng(seed), 36, 48) for seed in (0, 0, 1)]
  one, same, other = (depth_sensor.kinect(room(), INTRINSICS, 0.075, d).depth for d in draws)
  np.testing.assert_array_equal(one, same)
  assert not np.array_equal(one, other)


def test_noise_grows_with_distance_and_missing_depth_stays_missing():
  rng = np.random.default_rng(0)
  spread = []
  for metres in (0.8, 3.0):
    draws = depth_sensor.draw(rng, 40, 40)
    read = depth_sensor.kinect(np.full((40, 40), metres), INTRINSICS, 0.075, draws)
    spread.append(np.std(read.depth[read.kept]))
    assert (
      np.mean(read.kept) > 0.5 and abs(np.median(read.depth[read.kept]) - metres) < 0.2 * metres
    )
  assert spread[1] > 3 * spread[0]
  empty = depth_sensor.kinect(np.zeros((8, 8)), INTRINSICS, 0.075, depth_sensor.draw(rng, 8, 8))
  assert not np.any(empty.depth) and not np.any(empty.kept) and not np.any(empty.out_of_range)


def test_floors_and_walls_have_their_heights_and_angles():
  down = np.asarray([0.0, 1.0, 0.0])
  depth, height, angle = np.moveaxis(depth_geometry.dha(room(), INTRINSICS, down, 1.2), -1, 0)
  floor = (depth < 2.6) & (np.arange(36)[:, None] < 35)
  np.testing.assert_allclose(height[floor], 0, atol=1e-9)
  np.testing.assert_allclose(angle[floor], 0, atol=1e-6)
  np.testing.assert_allclose(angle[:20], 90, atol=1e-6)
  points = depth_geometry.backproject(room(), INTRINSICS)
  found = depth_geometry.gravity(*depth_geometry.normals(points), start=(0.2, 0.9, 0.1))
  np.testing.assert_allclose(found[-1], down, atol=1e-2)


def plane(normal: np.ndarray, distance: float, height: int = 31, width: int = 45) -> np.ndarray:
  """Returns the depth of the plane `normal . X = distance` in camera axes."""
  x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
  fx, fy, cx, cy = INTRINSICS
  ray = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=-1)
  return distance / (ray @ normal)


@pytest.mark.parametrize("tilt_deg", [0.0, -17.0, -35.0])
@pytest.mark.parametrize("slope_deg", [0.0, 30.0, 90.0])
def test_dha_of_a_tilted_plane_is_its_closed_form(tilt_deg, slope_deg):
  """Camera tilted about x by one angle, plane by another against the vertical."""
  tilt = np.deg2rad(tilt_deg)
  down = np.asarray([0.0, np.cos(tilt), -np.sin(tilt)])
  ahead = np.asarray([0.0, np.sin(tilt), np.cos(tilt)])
  slope = np.deg2rad(slope_deg)
  up = -np.cos(slope) * down - np.sin(slope) * ahead  # normal of a ramp that rises ahead
  depth = plane(-up, 1.5)
  depth = np.where((depth > 0) & (depth < 30), depth, 0.0)
  channels = depth_geometry.dha(depth, INTRINSICS, down, camera_height_m=1.2)
  points = depth_geometry.backproject(depth, INTRINSICS)
  known = depth_geometry.normals(points)[1]
  assert known.sum() > 100
  np.testing.assert_allclose(channels[known, 2], slope_deg, atol=1e-6)
  np.testing.assert_allclose(channels[..., 0], depth)
  expected = np.where(depth > 0, 1.2 - points @ down, 0.0)
  np.testing.assert_allclose(channels[..., 1], expected, atol=1e-12)
  if slope_deg == 0:
    np.testing.assert_allclose(channels[depth > 0, 1], 1.2 - 1.5, atol=1e-9)


def test_dha_next_to_holes_has_depth_and_height_but_no_angle():
  depth = plane(np.asarray([0.0, 0.0, 1.0]), 2.0)
  depth[10:12, 20] = 0.0
  down = np.asarray([0.0, 1.0, 0.0])
  channels = depth_geometry.dha(depth, INTRINSICS, down, 1.0)
  assert not channels[10:12, 20].any()
  beside = [(9, 20), (12, 20), (10, 19), (11, 21)]
  for row, column in beside:
    assert channels[row, column, 2] == 0 and channels[row, column, 0] == 2
  assert channels[9, 19, 2] == pytest.approx(90)
  np.testing.assert_array_equal(np.isfinite(channels), True)
  nothing = depth_geometry.dha(np.zeros((4, 5)), INTRINSICS, down, 1.0)
  assert not nothing.any()


@pytest.mark.parametrize("kind", sorted(depth_sensor.SENSORS))
@pytest.mark.parametrize("scale", [1, 3])
def test_a_sensor_loses_the_same_share_at_every_size_and_keeps_depth(kind, scale):
  camera = INTRINSICS * scale
  rows = np.arange(36 * scale)[:, None] + 0.5
  down = (rows - camera[3]) / camera[1]
  depth = np.minimum(np.where(down > 0, 1.2 / np.maximum(down, 1e-9), np.inf), 3.0)
  depth = np.broadcast_to(depth, (36 * scale, 48 * scale)).copy()
  depth[8 * scale : 24 * scale, 20 * scale : 30 * scale] = 1.0  # its edges and its shadow are lost
  read = depth_sensor.read(kind, depth, camera, np.random.default_rng(0))
  kept = read > 0
  assert 0.6 < kept.mean() < 1
  assert np.median(np.abs(read - depth)[kept]) < 0.03 and np.any(read != depth)
  again = depth_sensor.read(kind, depth, camera, np.random.default_rng(0))
  np.testing.assert_array_equal(read, again)


def test_an_unknown_sensor_is_an_error():
  with pytest.raises(ValueError, match=r"'sonar' is not one of \['kinect', 'nguyen'\]"):
    depth_sensor.read("sonar", np.ones((8, 8)), INTRINSICS, np.random.default_rng(0))
