"""Depth and motion by warping: the true pose costs less than others, what is masked, and resuming."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import streams, training, zoo
from perceiver_stream.inference import export, load_odometer
from perceiver_stream.inference.odometry import as_odometry
from perceiver_stream.models import motion_readout
from perceiver_stream.models.motion_readout import Motion
from perceiver_stream.nn.geometry import lie
from perceiver_stream.streams import rooms
from perceiver_stream.training.objectives import ego_motion
from perceiver_stream.training.objectives.ego_motion import Config, Window
from perceiver_stream.training.objectives.readout_base import ReadoutLearner
from perceiver_stream.training.parts import make_parts
from perceiver_stream.zoo.loading import load_readout

TICKS, SIDE = 5, 32
CONFIG = Config(window=TICKS, neighbours=(-1, 1))


@pytest.fixture(scope="module")
def room():
  """Returns a window of a room, `[T, 1, ...]`."""
  config = rooms.Config(
    height=SIDE, width=SIDE, modalities=("pixels", "depth", "camera"), max_ticks=TICKS, seed=3
  )
  ticks = list(streams.open_rows(config)[0])
  names = ("pixels", "depth", "camera")
  return {n: jnp.asarray(np.stack([t[n] for t in ticks]))[:, None] for n in names}


def window_of(room, twists, scale=1.0, **changes) -> Window:
  """Returns predictions with these motions and the true depth."""
  config = rooms.Config(height=SIDE, width=SIDE)
  camera = jnp.asarray(rooms.intrinsics(config), jnp.float32)
  depth = room["depth"] * scale
  motion = Motion(1 / depth, jnp.ones_like(depth), twists, jnp.broadcast_to(camera, (TICKS, 1, 4)))
  frames = room["pixels"].astype(jnp.float32) / 255
  whole = Window(frames, motion, jnp.ones((TICKS, 1), jnp.int32), jnp.ones((TICKS, 1), bool))
  return whole._replace(**changes)


@pytest.fixture(scope="module")
def truth(room):
  motions, _ = ego_motion.true_motions(room)
  return jnp.concatenate([jnp.zeros((1, 1, 6)), lie.se3_log(motions)])


@pytest.fixture(scope="module")
def loss():
  return jax.jit(lambda window: ego_motion.warping_loss(window, CONFIG))


def test_the_true_motion_costs_less_than_a_wrong_one(room, truth, loss):
  right, kept = loss(window_of(room, truth))
  assert float(jnp.mean(kept)) > 0.5
  for wrong in (0.0 * truth, -truth, 2.0 * truth, truth.at[..., 3:].add(0.03)):
    assert float(right) < 0.85 * float(loss(window_of(room, wrong))[0])
  # Depth and translation share one free scale.
  scaled = truth.at[..., :3].multiply(3.0)
  same, _ = loss(window_of(room, scaled, 3.0))
  np.testing.assert_allclose(same, right, rtol=2e-2)


def test_a_camera_at_rest_is_masked_and_gradients_are_finite(room, truth, loss):
  still = dict(room) | {"pixels": jnp.repeat(room["pixels"][:1], TICKS, 0)}
  _, kept = loss(window_of(still, truth))
  assert float(jnp.mean(kept)) < 0.02
  gradient = jax.jit(jax.grad(lambda t: ego_motion.warping_loss(window_of(still, t), CONFIG)[0]))(
    truth
  )
  assert np.all(np.isfinite(gradient))


def test_neighbours_of_other_recordings_and_without_frames_do_not_count(room, truth):
  recording = jnp.asarray([[1], [1], [2], [2], [2]])
  valid = jnp.asarray([[True], [True], [True], [True], [False]])
  window = window_of(room, truth, recording=recording, valid=valid)
  found = jax.jit(lambda w: ego_motion.from_neighbours(w, (-1, 1, 4), 0.85))(window)
  rows = {-1: [0, 1, 0, 1, 0], 1: [1, 0, 1, 0, 0], 4: [0, 0, 0, 0, 0]}
  np.testing.assert_array_equal(found.valid[..., 0], np.asarray(list(rows.values()), bool))
  assert np.all(found.warped[~np.asarray(found.valid)] == ego_motion.OUTSIDE)


def test_errors_of_motion_and_depth_in_closed_form(room, truth):
  motions, valid = ego_motion.true_motions(room)
  assert valid[:, 0].tolist() == [False, True, True, True, True]
  errors = jax.jit(ego_motion.motion_errors)(lie.se3_exp(truth[1:]), motions)
  np.testing.assert_allclose(errors[0], 0, atol=1e-3)
  np.testing.assert_allclose(errors[1], 0, atol=1e-2)
  rest = jnp.broadcast_to(jnp.eye(4), motions.shape)
  rotation, direction, turned = ego_motion.motion_errors(rest, motions)
  np.testing.assert_allclose(rotation, turned, atol=1e-5)
  np.testing.assert_allclose(direction, 1, atol=1e-5)
  window = window_of(room, truth)
  assert float(ego_motion.pose_loss(window, room)) == pytest.approx(0, abs=1e-4)
  starts = dict(room) | {"is_first": jnp.asarray([[True], [False], [True], [False], [False]])}
  assert ego_motion.true_motions(starts)[1][:, 0].tolist() == [False, True, False, True, True]
  depth = room["depth"]
  np.testing.assert_allclose(ego_motion.median_abs_rel(3 * depth, depth), 0, atol=1e-5)
  holes = depth.at[:, :, :4].set(0.0)
  np.testing.assert_allclose(ego_motion.median_abs_rel(depth, holes), 0, atol=1e-5)


@pytest.mark.parametrize(
  ("config", "text"),
  [
    (Config(neighbours=(0, 1)), r"neighbours=\(0, 1\) in a window of 8 ticks"),
    (Config(neighbours=(8,)), "give distances from 1 to 7"),
    (Config(supervision="labels"), "supervision='labels' is not one of"),
  ],
)
def test_configs_that_contradict_themselves(config, text):
  with pytest.raises(ValueError, match=text):
    config.validate()


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
  config = training.load_config("rooms:nano")
  config.run_dir, config.max_windows = str(tmp_path_factory.mktemp("run") / "whole"), 4
  config.logging.use_tensorboard = config.logging.use_report = False
  return config


@pytest.fixture(scope="module")
def trained(nano):
  training.train(nano)
  return nano.run_dir


def test_a_run_tracks_the_camera_of_a_video_as_its_file_does(trained, tmp_path):
  frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
  track = load_odometer(trained)(frames)
  assert track.poses.shape == (3, 4, 4) and track.depth.shape == (3, 16, 16)
  np.testing.assert_array_equal(track.poses[0], np.eye(4))
  assert np.all(track.depth > 0) and track.intrinsics[2] == 8
  export(trained, tmp_path / "a.safetensors")
  same = load_odometer(tmp_path / "a.safetensors")(frames)
  np.testing.assert_allclose(same.motions, track.motions, atol=1e-6)
  # The memory is carried from chunk to chunk.
  model, params = zoo.load(tmp_path / "a.safetensors")
  readout = load_readout(tmp_path / "a.safetensors", "motion")
  learner = ReadoutLearner(model, params, motion_readout.build(readout.config))
  chunked = as_odometry(learner, readout.params, chunk=2)(frames)
  np.testing.assert_allclose(chunked.motions, track.motions, atol=1e-4)
  np.testing.assert_allclose(chunked.depth, track.depth, rtol=1e-3)


def test_a_file_whose_readout_is_of_another_version_is_refused_by_name(trained, tmp_path):
  path = tmp_path / "old.safetensors"
  export(trained, path)
  model, params = zoo.load(path)
  readout = load_readout(path, "motion")
  module, arrays = next(iter(readout.params.items()))
  name, array = next(iter(arrays.items()))
  longer = {**readout.params, module: {**arrays, name: np.concatenate([array, array])}}
  zoo.save(path, model, params, readouts={"motion": readout._replace(params=longer)})
  with pytest.raises(ValueError, match=f"old.safetensors: its read-out.*{module}/{name} is "):
    load_odometer(path)


def test_a_run_that_stops_and_resumes_is_the_same_run(nano, trained, tmp_path):
  halves = dataclasses.replace(nano, run_dir=str(tmp_path / "halves"), max_windows=2)
  training.train(halves)
  training.train(dataclasses.replace(halves, max_windows=4))
  for name in ("metrics.jsonl", "camera_path.jsonl"):
    whole = (pathlib.Path(trained) / name).read_text()
    assert (tmp_path / "halves" / name).read_text() == whole


def test_poses_teach_the_same_network(nano):
  objective = dataclasses.replace(nano.objective, supervision="pose")
  parts = make_parts(dataclasses.replace(nano, objective=objective))
  assert parts.objective.needs == ("pixels", "camera")
  window = dict(next(iter(parts.windows)))
  first = {name: jnp.asarray(value[0]) for name, value in window.items() if value.ndim > 2}
  params = parts.objective.init_params(jax.random.key(0), first)
  names = ("pixels", "camera", "depth", "is_first")
  window = {n: jnp.asarray(window[n]) for n in names}
  state = parts.objective.initial_state(params)
  assert int(state.memory.count[0]) == 0
  (value, aux), gradient = jax.jit(parts.objective.loss_and_grad)(params, state, window)
  assert np.isfinite(value) and {"depth@0", "rotation@0", "direction@0"} <= set(aux.scores)
  assert float(jnp.max(jnp.abs(gradient["motion/pose"]["w"]))) > 0
  frames = int(np.sum(window["is_first"].argmax(0) == 0)) and len(window["pixels"])
  assert int(aux.next_state.memory.count[0]) == frames
