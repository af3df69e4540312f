"""Where pixels come from: untrained nowhere else; weights sum to one; a moving thing arrives."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.modalities.sources import NUM_SOURCES, warp_hypotheses

SIZE = 16


def ask(params_of, motion, ticks):
  """Returns flows and weights of every pixel of a picture asked about as one cell."""
  index = jnp.asarray(np.moveaxis(np.mgrid[:SIZE, :SIZE], 0, -1)[None], jnp.float32)
  decoded = jnp.ones((1, 1, 4))
  motion_scale = jnp.ones((1, 1, 1, 1, 1))
  run = hk.without_apply_rng(
    hk.transform(lambda: warp_hypotheses(decoded, motion, index, ticks, motion_scale, name="p"))
  )
  params = params_of(run.init(jax.random.PRNGKey(0)))
  flows, weights = run.apply(params)
  return flows[0, 0], weights[0, 0]


def with_gain(gain, strictness=0.0):
  def change(params):
    params["p_flow"]["b"] = params["p_flow"]["b"].at[0].set(gain)
    params["p_choice"]["b"] = params["p_choice"]["b"].at[0].set(strictness)
    return params

  return change


@pytest.mark.parametrize("ticks", [1.0, 16.0])
def test_untrained_every_pixel_stays(ticks):
  motion = jax.random.normal(jax.random.PRNGKey(1), (1, SIZE, SIZE, 2))
  flows, weights = ask(lambda p: p, motion, jnp.array([ticks]))
  assert flows.shape == (SIZE, SIZE, NUM_SOURCES, 2)
  np.testing.assert_array_equal(flows, 0.0)
  np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)


def test_flow_is_proportional_to_the_ticks_and_ends_at_the_picture():
  motion = jnp.ones((1, SIZE, SIZE, 2))
  one, _ = ask(with_gain(0.5), motion, jnp.array([1.0]))
  four, _ = ask(with_gain(0.5), motion, jnp.array([4.0]))
  np.testing.assert_allclose(four, 4 * one, rtol=1e-5)
  np.testing.assert_allclose(one[..., :-1, :], 0.5)
  np.testing.assert_array_equal(one[..., -1, :], 0.0)  # standing still
  far, _ = ask(with_gain(9.0), motion, jnp.array([16.0]))
  assert far.max() == SIZE


def test_a_thing_that_arrives_is_found_where_nothing_moves_yet():
  # The left half moves right by two pixels a tick: each of its pixels was two to the left.
  motion = jnp.zeros((1, SIZE, SIZE, 2)).at[:, :, : SIZE // 2, 0].set(-2.0)
  flows, weights = ask(with_gain(1.0, strictness=5.0), motion, jnp.array([2.0]))
  arriving = (8, SIZE // 2 + 2)  # still ground now, the thing's in two ticks
  moving = np.asarray(flows[arriving][:, 0]) == -4.0
  assert moving.any()
  likely = np.asarray(weights[arriving])
  assert likely[moving].max() > 0.05 * (1 - 1e-6) and likely[moving].max() >= likely[1:-1].max()
  ground = (8, SIZE - 1)
  np.testing.assert_allclose(flows[ground][:, 0], 0.0, atol=1e-5)
