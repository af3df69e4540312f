"""The filter of depth: better than a constant after a while, resets, holes, chunks, and its algebra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.nn import local_motion
from perceiver_stream.nn.geometry import cameras, depth_filter, lie
from perceiver_stream.nn.geometry.depth_filter import Depths, Tick
from perceiver_stream.streams import rooms

SIDE, TICKS = 48, 8
DEPTHS = Depths(0.4, 2.5, 12.0)


@pytest.fixture(scope="module")
def room():
  """Returns inputs of 24 ticks, true depth, and the camera."""
  names = ("pixels", "depth")
  config = rooms.Config(height=SIDE, width=SIDE, modalities=names, max_ticks=3 * TICKS, seed=1)
  ticks = list(streams.open_rows(config)[0])
  frames = np.stack([tick["pixels"] for tick in ticks]).astype(np.float32)[:, None] / 255
  before = np.concatenate([frames[:1], frames[:-1]])
  matched = local_motion(before[:, 0], frames[:, 0])[:, None]
  flags = jnp.zeros((3 * TICKS, 1), bool)
  inputs = Tick(jnp.asarray(frames), matched, flags, ~flags)
  camera = jnp.asarray(rooms.intrinsics(config)[None], jnp.float32)
  return inputs, np.stack([tick["depth"] for tick in ticks]), camera


@pytest.fixture(scope="module")
def update(room):
  jitted = jax.jit(functools.partial(depth_filter.update, depths=DEPTHS))
  return lambda memory, ticks: jitted(memory, ticks, room[2])


def part(ticks, start, stop):
  return jax.tree.map(lambda x: x[start:stop], ticks)


def fresh():
  return depth_filter.initial(1, SIDE, SIDE, DEPTHS)


def test_types_of_a_memory_stay_the_same_so_that_a_video_is_compiled_for_once(room, update):
  _, after = update(fresh(), part(room[0], 0, TICKS))
  typed = lambda memory: jax.tree.map(lambda x: (x.dtype, x.aval.weak_type), memory)  # noqa: E731
  assert typed(fresh()) == typed(after)


def abs_rel(depth, truth):
  scaled = depth * np.median(truth) / np.median(depth)
  return np.mean(np.abs(scaled - truth) / truth)


def test_depth_is_gathered_over_ticks(room, update):
  ticks, truth, _ = room
  memory, found = fresh(), []
  for start in range(0, 3 * TICKS, TICKS):
    (inverse, weight, motion), memory = update(memory, part(ticks, start, start + TICKS))
    found.append(abs_rel(1 / np.asarray(inverse[-1, 0]), truth[start + TICKS - 1]))
  constant = abs_rel(np.ones_like(truth[-1]), truth[-1])
  assert found[-1] < 0.75 * constant
  assert np.all(weight >= 0) and np.all((inverse >= 1 / 12 - 1e-6) & (inverse <= 2.5 + 1e-6))
  assert int(memory.count[0]) == 3 * TICKS
  np.testing.assert_array_equal(memory.frames[:, 0], ticks.frame[-1])
  np.testing.assert_allclose(memory.path[0, 0], np.eye(4), atol=1e-6)
  assert np.linalg.norm(memory.path[0, 3, :3, 3]) > 0.02  # metres, three ticks ago


def test_a_start_forgets_and_a_tick_without_a_frame_changes_nothing(room, update):
  ticks, _, _ = room
  _, memory = update(fresh(), part(ticks, 0, TICKS))
  again = part(ticks, TICKS, 2 * TICKS)
  again = again._replace(starts=again.starts.at[0].set(True))
  for got, expected in zip(
    jax.tree.leaves(update(memory, again)), jax.tree.leaves(update(fresh(), again)), strict=True
  ):
    np.testing.assert_array_equal(got, expected)
  empty = part(ticks, 0, TICKS)._replace(valid=jnp.zeros((TICKS, 1), bool))
  found, after = update(memory, empty)
  for got, expected in zip(after, memory, strict=True):
    np.testing.assert_array_equal(got, expected)
  np.testing.assert_array_equal(found.inverse_depth[3], memory.inverse_depth)
  np.testing.assert_array_equal(found.motion[3, 0], np.eye(4))
  # A start whose frame is missing is a start at the next frame.
  late = again._replace(valid=again.valid.at[0].set(False))
  found, after = update(memory, late)
  assert int(after.count[0]) == TICKS - 1
  np.testing.assert_array_equal(found.inverse_depth[0], fresh().inverse_depth)


@pytest.mark.parametrize("model_resets", [False, True])  # it then matches no motion
def test_a_cut_starts_without_a_flag(model_resets, room, update):
  ticks, _, _ = room
  _, memory = update(fresh(), part(ticks, 0, TICKS))
  other = part(ticks, TICKS, 2 * TICKS)
  other = other._replace(frame=1 - jnp.flip(other.frame, axis=3))  # no motion explains it
  if model_resets:
    other = other._replace(matched=other.matched.at[0].set(0))
  for got, expected in zip(
    jax.tree.leaves(update(memory, other)), jax.tree.leaves(update(fresh(), other)), strict=True
  ):
    np.testing.assert_array_equal(got, expected)


def test_a_camera_at_rest_learns_nothing(room, update):
  ticks, _, _ = room
  still = Tick(
    jnp.repeat(ticks.frame[:1], TICKS, 0), jnp.zeros_like(ticks.matched[:TICKS]), *ticks[2:]
  )
  found, memory = update(fresh(), part(still, 0, TICKS))
  np.testing.assert_allclose(found.inverse_depth, 1 / DEPTHS.start, rtol=1e-5)
  np.testing.assert_allclose(memory.path, np.broadcast_to(np.eye(4), memory.path.shape), atol=1e-6)
  assert float(jnp.max(found.weight)) < 200  # only those of the start and of what is around


def test_depth_before_a_motion_gives_depth_after_it():
  rng = np.random.default_rng(0)
  camera = jnp.asarray([[20.0, 22.0, 8.0, 6.0]])
  depth = jnp.asarray(rng.uniform(1, 4, (1, 12, 16)), jnp.float32)
  twist = jnp.asarray(1e-3 * rng.normal(size=(1, 6)), jnp.float32)
  points = cameras.backproject(depth, camera).reshape(1, -1, 3)
  before = lie.transform(lie.se3_exp(twist), points)[..., 2].reshape(depth.shape)
  found = depth_filter._transformed(1 / before, twist, camera)
  np.testing.assert_allclose(1 / found, depth, rtol=2e-5)


def test_what_comes_into_view_has_no_weight():
  memory = fresh()._replace(weight=jnp.full((1, SIDE, SIDE), 100.0))
  flow = jnp.zeros((1, SIDE, SIDE, 2)).at[..., 0].set(3.0)  # everything came from the right
  inverse, weight = depth_filter._carried(memory, flow, DEPTHS)
  assert np.all(weight[:, :, -3:] == 0) and np.all(weight[:, :, :-4] == 100)
  np.testing.assert_allclose(inverse, 1 / DEPTHS.start, rtol=1e-6)
  unknown, _ = depth_filter._carried(fresh(), flow, DEPTHS)
  np.testing.assert_allclose(unknown, 1 / DEPTHS.start, rtol=1e-6)
