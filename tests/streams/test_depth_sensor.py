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
