"""How rough a flow is."""

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.nn import roughness


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
