"""Rooms: depth, normals, flow and pose agree with each other and with the geometry layers."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.nn.geometry import cameras, warps
from perceiver_stream.streams import depth_geometry, depth_sensor, rooms
from perceiver_stream.streams.rooms import layout


def watch(ticks=12, **fields):
  silent = tuple(name for name in rooms.MODALITIES if name != "audio")
  fields = {"modalities": silent, "height": 48, "width": 64} | fields
  config = rooms.Config(max_ticks=ticks, **fields)
  read = list(streams.open_rows(config)[0])
  return config, {name: np.stack([tick[name] for tick in read]) for name in read[0]}


def poses(ticks):
  camera = ticks["camera"].reshape(-1, 3, 4).astype(np.float64)
  last = np.broadcast_to([[[0, 0, 0, 1.0]]], (len(camera), 1, 4))
  return np.concatenate([camera, last], axis=1)


@pytest.mark.parametrize("level", rooms.LEVELS)
def test_every_point_lies_in_the_room_and_the_camera_in_free_space(level):
  config, ticks = watch(level=level)
  assert np.all(ticks["depth"] > 0.05)
  for depth, pose in zip(ticks["depth"], poses(ticks), strict=True):
    points = depth_geometry.backproject(depth.astype(float), rooms.intrinsics(config))
    world = points @ pose[:3, :3].T + pose[:3, 3]
    assert np.all(world > -1e-4) and np.all(world < layout.ROOM + 1e-4)
  np.testing.assert_allclose(np.linalg.norm(ticks["normals"], axis=-1), 1, atol=1e-4)


@pytest.mark.parametrize("level", ["easy", "medium"])  # nothing moves but the camera
def test_flow_is_that_of_the_rigid_warp(level):
  config, ticks = watch(level=level)
  pose = poses(ticks)
  for name, step in (("flow", 1), ("flow_backward", -1)):
    now = np.arange(1, 11)
    relative = np.linalg.inv(pose[now + step]) @ pose[now]  # this camera to the other
    camera = np.broadcast_to(rooms.intrinsics(config), (10, 4))
    arrays = (jnp.asarray(x, jnp.float32) for x in (ticks["depth"][now], relative, camera))
    expected = warps.rigid_flow(*arrays)
    np.testing.assert_allclose(ticks[name][now], expected, atol=5e-3)


def test_warping_the_next_picture_by_depth_and_pose_gives_this_one():
  config, ticks = watch(level="medium", height=96, width=128)
  pose = poses(ticks)
  relative = np.linalg.inv(pose[1:]) @ pose[:-1]
  camera = np.broadcast_to(rooms.intrinsics(config), (11, 4))
  now, after = (ticks["pixels"][s].astype(np.float32) / 255 for s in (slice(-1), slice(1, None)))
  arrays = (jnp.asarray(x, jnp.float32) for x in (after, ticks["depth"][:-1], relative, camera))
  read, landing = warps.warp_rigid(*arrays)
  inside = np.asarray(landing.inside)
  still = np.abs(now - after)[inside].mean()
  warped = np.abs(now - np.asarray(read))[inside].mean()
  assert inside.mean() > 0.8 and warped < 0.35 * still


def test_normals_are_those_of_depth_away_from_edges():
  config, ticks = watch(level="easy", height=96, width=128)
  for depth, normals, label in zip(
    ticks["depth"], ticks["normals"], ticks["segmentation"], strict=True
  ):
    points = depth_geometry.backproject(depth.astype(float), rooms.intrinsics(config))
    found, known = depth_geometry.normals(points)
    flat = np.sum(found * normals, axis=-1)
    room = known & (label <= 2)
    assert np.median(flat[room]) > 0.9999 and np.mean(flat[room] > 0.99) > 0.9
  floor = ticks["segmentation"] == 0
  down = poses(ticks)[:, 1, :3]  # the world's y axis in camera axes
  height = np.einsum("thwc,tc->thw", ticks["normals"], down)
  np.testing.assert_allclose(height[floor], -1, atol=1e-4)


def test_every_class_occurs_and_moving_balls_move():
  classes = set()
  for seed in range(6):
    _, ticks = watch(ticks=40, seed=seed, level="hard", ticks_per_recording=10)
    classes |= set(np.unique(ticks["segmentation"]))
  assert classes == set(range(len(rooms.CLASSES)))
  scene = layout.sample(np.random.default_rng(0), layout.LEVELS["hard"])
  moving = [solid for solid in scene.solids if solid.sway.any()]
  assert moving and all(np.any(s.place(0.0) != s.place(1.0)) for s in moving)
  assert {rooms.CLASSES[s.label] for s in moving} == {"ball"}


def test_objects_stand_on_the_floor_without_overlap():
  for seed in range(20):
    scene = layout.sample(np.random.default_rng(seed), layout.LEVELS["hard"])
    for solid in scene.solids:
      assert solid.centre[1] + solid.half[1] <= layout.ROOM[1] + 1e-6
    places = {tuple(s.centre[[0, 2]]) for s in scene.solids}
    assert len(places) >= 5  # a table's top and leg share one


def test_a_tick_does_not_depend_on_what_was_read_before():
  config = rooms.Config(height=16, width=16)
  one, other = rooms.Room(config, 0, 0), rooms.Room(config, 0, 0)
  for _ in range(30):
    one.read()
  other.skip(30)
  np.testing.assert_array_equal(one.read()["pixels"], other.read()["pixels"])


def test_dha_has_the_heights_and_angles_of_the_room():
  names = ("depth", "dha", "segmentation")
  fields = {"field_of_view_deg": 110.0, "ticks_per_recording": 1, "modalities": names}
  _, ticks = watch(ticks=8, level="easy", height=96, width=128, **fields)
  depth, height, angle = np.moveaxis(ticks["dha"], -1, 0)
  np.testing.assert_array_equal(depth, ticks["depth"])
  for label, metres, degrees in ((0, 0.0, 0.0), (1, layout.ROOM[1], 180.0)):
    surface = ticks["segmentation"] == label
    np.testing.assert_allclose(height[surface], metres, atol=1e-3)
    assert np.mean(np.abs(angle[surface] - degrees) < 2) > 0.85  # all but at edges
  wall = ticks["segmentation"] == 2
  assert np.mean(np.abs(angle[wall] - 90) < 2) > 0.85


@pytest.mark.parametrize("sensor", sorted(depth_sensor.SENSORS))
def test_a_sensor_changes_depth_and_dha_and_nothing_else_at_any_tick(sensor):
  names = ("pixels", "depth", "dha", "segmentation")
  exact, noisy = (watch(ticks=6, modalities=names, sensor=s)[1] for s in ("", sensor))
  for name in ("pixels", "segmentation"):
    np.testing.assert_array_equal(exact[name], noisy[name])
  missing = np.isnan(noisy["depth"])
  assert 0.02 < missing.mean() < 0.8 and not np.isnan(exact["depth"]).any()
  np.testing.assert_array_equal(noisy["dha"][..., 0], np.where(missing, 0, noisy["depth"]))
  assert not noisy["dha"][missing].any()
  assert np.nanmedian(np.abs(noisy["depth"] - exact["depth"])) < 0.1
  room = rooms.Room(rooms.Config(height=48, width=64, modalities=names, sensor=sensor), 0, 0)
  room.skip(4)
  np.testing.assert_array_equal(room.read()["dha"], noisy["dha"][4])


def test_motion_at_25_hz_is_a_few_centimetres_and_degrees():
  _, ticks = watch(ticks=200, level="medium", modalities=("camera",))
  pose = poses(ticks)
  step = np.linalg.inv(pose[:-1]) @ pose[1:]
  metres = np.linalg.norm(step[:, :3, 3], axis=-1)
  trace = np.clip((np.trace(step[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)
  assert 0.015 < np.mean(metres) < 0.06 and 1 < np.degrees(np.mean(np.arccos(trace))) < 4


def test_intrinsics_project_the_rays_back():
  config, ticks = watch(ticks=1)
  camera = jnp.asarray(rooms.intrinsics(config)[None], jnp.float32)
  points = cameras.backproject(jnp.asarray(ticks["depth"]), camera)
  xy, valid = cameras.project(points, camera)
  assert np.all(valid)
  np.testing.assert_allclose(xy[0], cameras.pixel_centres(48, 64), atol=1e-3)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"audio_rate_hz": 8000}, "rooms: audio_rate_hz=8000 with modalities .* name 'audio'"),
    ({"modalities": ("audio",)}, "audio_rate_hz=0 with modalities .*and set a rate, or neither"),
    ({"level": "insane"}, r"level='insane' is not one of \['easy', 'medium', 'hard'\]"),
    ({"modalities": ("pixels", "smell")}, r"modalities \['smell'\] are not some of"),
    ({"sensor": "sonar"}, r"sensor='sonar' is not one of \['kinect', 'nguyen'\], or ''"),
    ({"field_of_view_deg": 5.0}, "field_of_view_deg=5.0; use 20 to 140"),
  ],
)
def test_errors_name_the_field(fields, message):
  with pytest.raises(ValueError, match=message):
    rooms.Config(**fields)
