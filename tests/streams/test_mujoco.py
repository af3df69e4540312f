"""The MuJoCo stream, beyond what all streams promise."""

import ctypes

import numpy as np
import pytest
from extras import need
from stream_checks import assert_same

from perceiver_stream.streams import mujoco, sim_scene


@pytest.fixture
def needs_mujoco():
  need("mujoco")
  try:
    sim_scene.load_mujoco()
  except RuntimeError as error:
    pytest.skip(str(error))


def ticks_of(num, row=0, **fields):
  config = mujoco.Config(**{"modalities": mujoco.MODALITIES} | fields)
  iterator = iter(mujoco.open_row(config, row))
  ticks = [next(iterator) for _ in range(num)]
  iterator.close()
  return ticks


def followed(flow):
  """Returns rows and columns at which each pixel arrives, and where that is in the picture."""
  height, width = flow.shape[:2]
  y, x = np.mgrid[:height, :width] + 0.5
  x, y = np.floor(x + flow[..., 0]).astype(int), np.floor(y + flow[..., 1]).astype(int)
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  return y.clip(0, height - 1), x.clip(0, width - 1), inside


@pytest.mark.parametrize("name", ["flow", "flow_backward"])
def test_flow_carries_the_picture_to_the_other_tick(needs_mujoco, name):
  ticks = ticks_of(12, height=160, width=160, audio_rate_hz=0, modalities=PICTURES)[8:]
  moved, still, same = [], [], []
  for now, then in zip(ticks, ticks[1:], strict=False):
    now, then = (now, then) if name == "flow" else (then, now)
    y, x, inside = followed(now[name])
    difference = lambda other, tick=now: np.abs(tick["pixels"].astype(float) - other)  # noqa: E731
    moved.append(difference(then["pixels"][y, x])[inside].mean())
    still.append(difference(then["pixels"])[inside].mean())
    same.append((now["segmentation"] == then["segmentation"][y, x])[inside].mean())
  assert np.mean(moved) < 0.5 * np.mean(still)
  assert np.mean(same) > 0.98, "labels do not move as the flow says"


PICTURES = ("pixels", "depth", "segmentation", "flow", "flow_backward", "camera")


def test_forward_and_backward_flow_undo_each_other(needs_mujoco):
  now, then = ticks_of(10, height=160, width=160, audio_rate_hz=0, modalities=PICTURES)[8:]
  y, x, inside = followed(now["flow"])
  there_and_back = np.abs(now["flow"] + then["flow_backward"][y, x]).max(-1)
  moving = inside & (now["segmentation"] > 0) & (now["segmentation"] == then["segmentation"][y, x])
  assert moving.any() and np.median(np.abs(now["flow"][moving])) > 0.1
  assert np.quantile(there_and_back[inside], 0.95) < 0.1
  assert np.quantile(there_and_back[moving], 0.8) < 0.2


def test_depth_is_metres_along_the_optical_axis(needs_mujoco):
  """The floor is where the camera's pose and the depth of its pixels say: at height 0."""
  tick = ticks_of(3, height=64, width=80, num_things=0, audio_rate_hz=0, modalities=PICTURES)[2]
  place, (w, i, j, k) = tick["camera"][:3], tick["camera"][3:]
  turn = np.array(
    [
      [1 - 2 * (j * j + k * k), 2 * (i * j - k * w), 2 * (i * k + j * w)],
      [2 * (i * j + k * w), 1 - 2 * (i * i + k * k), 2 * (j * k - i * w)],
      [2 * (i * k - j * w), 2 * (j * k + i * w), 1 - 2 * (i * i + j * j)],
    ]
  )
  y, x = np.mgrid[:64, :80] + 0.5
  focal = sim_scene.focal_px(64)
  ray = np.stack([(x - 40) / focal, (32 - y) / focal, -np.ones_like(x)], -1)
  world = (ray * tick["depth"][..., None]) @ turn.T + place
  inside = (np.abs(world[..., :2]) < sim_scene.ROOM_M - 0.1).all(-1)
  inside &= tick["segmentation"] == 0
  assert inside.mean() > 0.1
  assert np.abs(world[..., 2][inside]).max() < 0.02


def test_things_fall_are_seen_and_heard_when_they_land(needs_mujoco):
  ticks = ticks_of(40, height=48, width=48, modalities=("pixels", "audio", "segmentation"))
  loud = np.array([np.abs(tick["audio"]).max() for tick in ticks])
  assert (loud[:4] < 1e-3).all(), "heard before anything has landed"
  assert loud[4:].max() > 0.1
  assert len(np.unique(np.stack([tick["segmentation"] for tick in ticks]))) >= 6
  assert loud.max() <= 1


def test_a_room_without_things_is_silent_and_has_a_pusher(needs_mujoco):
  ticks = ticks_of(20, num_things=0, height=16, width=16)
  assert max(np.abs(tick["audio"]).max() for tick in ticks) < 1e-3
  goals = np.stack([tick["actions"] for tick in ticks])
  places = np.stack([tick["proprioception"][:2] for tick in ticks])
  assert np.abs(goals).max() <= 1 and np.ptp(goals, axis=0).min() > 0.05
  assert np.abs(goals[-1] - places[-1]).max() < np.abs(goals[-1]).max() + 0.2, "it does not follow"


def test_a_place_far_in_is_reached_without_drawing(needs_mujoco, monkeypatch):
  config = mujoco.Config(height=16, width=16, modalities=mujoco.MODALITIES)
  iterator = iter(mujoco.open_row(config))
  for _ in range(60):
    next(iterator)
  state, expected = iterator.get_state(), next(iterator)
  iterator.close()
  drawn = []
  draw = mujoco.Room._draw
  monkeypatch.setattr(mujoco.Room, "_draw", lambda room: drawn.append(1) or draw(room))
  resumed = iter(mujoco.open_row(config))
  resumed.set_state(state)
  assert_same(next(resumed), expected)
  assert len(drawn) == 1
  resumed.close()


def test_rows_and_recordings_are_different_rooms(needs_mujoco):
  fields = {"height": 16, "width": 16, "modalities": ("pixels",)}
  first, row = ticks_of(1, **fields)[0], ticks_of(1, row=1, **fields)[0]
  second = ticks_of(3, ticks_per_recording=2, **fields)[2]
  assert second["is_first"]
  assert (first["pixels"] != row["pixels"]).any()
  assert (first["pixels"] != second["pixels"]).any()


def test_without_a_drawing_library_it_says_which_to_install(monkeypatch):
  def missing(name):
    raise OSError(name)

  monkeypatch.setattr(ctypes, "CDLL", missing)
  monkeypatch.setattr("sys.platform", "linux")
  monkeypatch.delenv("MUJOCO_GL", raising=False)
  with pytest.raises(RuntimeError, match="no library to draw with.*libosmesa6"):
    sim_scene.load_mujoco()


def test_a_choice_of_drawing_library_is_left_alone(needs_mujoco, monkeypatch):
  monkeypatch.setenv("MUJOCO_GL", "osmesa")
  monkeypatch.setattr(ctypes, "CDLL", None)
  assert sim_scene.load_mujoco().__name__ == "mujoco"


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("height", 4, "height=4; use 8 to 2048"),
    ("num_things", 65, "num_things=65; use 0 to 64"),
    ("ticks_per_recording", -1, "ticks_per_recording=-1; 0 is never"),
    ("modalities", ("smell",), "modalities=.*smell.*use some of"),
    ("audio_rate_hz", 0, "audio_rate_hz=0; set it, or leave 'audio' out"),
  ],
)
def test_wrong_fields_are_refused(field, value, message):
  with pytest.raises(ValueError, match=message):
    mujoco.Config(**{field: value})


def test_clicks_are_as_loud_as_their_impulse_and_end():
  soft, hard = (sim_scene.Clicks(16000, 640) for _ in range(2))
  soft.add(0.5, 400.0, 0.05)
  hard.add(0.5, 400.0, 0.1)
  first_soft, first_hard = soft.read(), hard.read()
  assert not first_soft[:320].any() and first_soft[320:].any()
  np.testing.assert_allclose(first_hard, 2 * first_soft, atol=1e-3)
  later = [hard.read() for _ in range(8)]
  assert np.abs(later[0]).max() > np.abs(later[3]).max() and not later[-1].any()


def test_flow_of_a_still_world_is_zero_and_of_a_turned_camera_is_not():
  place, turn = sim_scene.Orbit(np.zeros(6)).pose(0.0)
  poses = sim_scene.Poses(np.zeros((1, 3)), np.eye(3)[None], place, turn)
  depth, geoms = np.full((8, 10), 3.0), np.zeros((8, 10), int)
  assert np.abs(sim_scene.flow_between(depth, geoms, poses, poses)).max() < 1e-5
  angle = 0.01
  yaw = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
  flow = sim_scene.flow_between(depth, geoms, poses, poses._replace(eye_turn=turn @ yaw))
  np.testing.assert_allclose(flow[4, 5], (angle * sim_scene.focal_px(8), 0), atol=1e-2)
  moved = poses._replace(place=turn[:, :1].T * 0.1)  # to the camera's right
  flow = sim_scene.flow_between(depth, geoms, poses, moved)
  np.testing.assert_allclose(flow[..., 0], 0.1 * sim_scene.focal_px(8) / 3, rtol=1e-5)
