"""Cuts between pictures, and how rough a flow is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scenes

from perceiver_stream.nn import is_cut, is_unexplained, local_motion, roughness
from perceiver_stream.nn.motion import box_filter

SIDE = 48


jitted = jax.jit(is_cut)


def cut(before, after) -> bool:
  before, after = (np.broadcast_to(x, (SIDE, SIDE, 3))[None] / 255 for x in (before, after))
  return bool(jitted(jnp.asarray(before, jnp.float32), jnp.asarray(after, jnp.float32))[0])


@pytest.mark.parametrize("seed", range(4))
def test_another_picture_is_a_cut(seed):
  last, other = (scenes.moving(1, SIDE, 0, s)[0] for s in (seed, seed + 100))
  assert cut(last, other)
  assert cut(last, 255 - last)
  assert cut(0, last) and cut(last, 255)


@pytest.mark.parametrize("seed", range(4))
def test_motion_light_and_noise_are_no_cut(seed):
  last, moved = scenes.moving(5, SIDE, 1, seed)[[0, 4]].astype(float)
  noise = np.random.default_rng(seed).normal(0, 8, last.shape)
  assert not cut(last, last)
  assert not cut(last, moved)
  assert not cut(last, np.clip(last * 0.9 + 5 + noise, 0, 255))


def test_fine_texture_that_moves_is_no_cut_though_copying_is_worse_than_the_mean_colour():
  noise = np.random.default_rng(0).normal(size=(1, SIDE, 2 * SIDE, 3))
  texture = 128 + 200 * np.asarray(box_filter(jnp.asarray(noise, jnp.float32), 3))[0]
  before, after = texture[:, :SIDE], texture[:, 2 : SIDE + 2]
  assert np.mean(np.square(after - before)) > np.var(after)
  assert not cut(before, after)


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_is_found_with_a_known_motion_as_with_a_search(seed):
  frames = scenes.moving(3, SIDE, 1, seed), scenes.moving(1, SIDE, 0, seed + 100)
  last, moved, other = (
    jnp.asarray(x[None] / 255, jnp.float32) for x in (frames[0][0], frames[0][2], frames[1][0])
  )
  for after in (moved, other):
    flow = local_motion(last, after)[..., :2]
    assert is_unexplained(last, after, flow) == is_cut(last, after) == (after is other)
  assert is_unexplained(last, other, jnp.zeros((1, SIDE, SIDE, 2)))


def test_a_small_ball_that_leaps_is_no_cut():
  y, x = np.mgrid[:SIDE, :SIDE][..., None]
  ball = lambda at: np.where(np.hypot(y - 20, x - at) < 5, 220.0, 0.0)  # noqa: E731
  assert not cut(ball(12), ball(18))


def test_noise_on_a_uniform_picture_is_no_cut_and_a_blank_that_stays_is_none():
  rng = np.random.default_rng(0)
  noisy = [90 + rng.normal(0, 5, (SIDE, SIDE, 3)) for _ in range(2)]
  assert not cut(*noisy)
  assert not cut(0, 0)
  assert cut(0, 200)


def test_a_flow_without_change_is_smooth_and_can_be_learnt_from():
  flow = jnp.ones((2, 4, 5, 2))
  value, gradient = jax.value_and_grad(roughness)(flow)
  assert value == 0 and np.all(np.asarray(gradient) == 0)


def test_far_from_zero_it_is_the_total_variation():
  y, x = np.mgrid[:6, :6].astype(np.float32)
  flow = jnp.asarray(np.stack([3 * x + 4 * y, 0 * x], -1))[None]
  inner = jnp.concatenate([flow] * 3)
  slope = np.zeros((6, 6, 2))
  dy, dx = (np.full((6, 6), s) for s in (4.0, 3.0))
  dy[[0, -1]], dx[:, [0, -1]] = 2.0, 1.5  # half at the edge, which repeats
  slope[..., 0] = np.hypot(dy, dx)
  np.testing.assert_allclose(roughness(inner), slope.mean(), rtol=1e-3)


def test_near_zero_it_is_a_square_and_there_is_no_step_between():
  ramp = lambda size: jnp.tile(size * jnp.arange(8.0)[None, None, :, None], (1, 8, 1, 2))  # noqa: E731
  threshold = 0.1
  small, twice = (float(roughness(ramp(s), threshold)) for s in (0.01, 0.02))
  np.testing.assert_allclose(twice / small, 4, rtol=1e-4)
  below, above = (float(roughness(ramp(s), threshold)) for s in (0.0999, 0.1001))
  np.testing.assert_allclose(below, above, rtol=5e-3)
