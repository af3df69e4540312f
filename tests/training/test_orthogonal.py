"""Gradients that leave out what went before."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer, orthogonal

PARAMS = {"a": jnp.zeros((4, 3)), "b": jnp.zeros(7)}


def draw(seed):
  keys = jax.random.split(jax.random.key(seed), 2)
  drift = jax.random.normal(jax.random.key(99), (7,))
  return {"a": jax.random.normal(keys[0], (4, 3)), "b": jax.random.normal(keys[1], (7,)) + drift}


def dots(a, b):
  return {name: float(jnp.sum(a[name] * b[name])) for name in a}


@pytest.mark.parametrize("by_tensor", [False, True])
def test_nothing_is_left_along_the_average(by_tensor):
  transform = orthogonal(0.9, by_tensor=by_tensor)
  state = transform.init(PARAMS)
  for seed in range(6):
    before, gradient = state.average, draw(seed)
    update, state = transform.update(gradient, state)
    along = dots(update, before)
    if by_tensor:
      np.testing.assert_allclose(list(along.values()), 0, atol=1e-5)
    elif seed:
      np.testing.assert_allclose(sum(along.values()), 0, atol=1e-5)
      assert max(map(abs, along.values())) > 1e-3, "one by one they need not be"
    for name in PARAMS:
      np.testing.assert_allclose(
        state.average[name], 0.9 * before[name] + 0.1 * gradient[name], rtol=1e-5, atol=1e-7
      )


def test_the_first_gradient_stays_as_it_is():
  transform = orthogonal(0.9)
  update, _ = transform.update(draw(0), transform.init(PARAMS))
  jax.tree.map(np.testing.assert_array_equal, update, draw(0))


def test_an_optimizer_has_it_by_a_field():
  config = OptimizerConfig(
    name="sgd", b1=0.0, clip_norm=0.0, learning_rate=0.5, orthogonal="tensor"
  )
  optimizer, alone = make_optimizer(config), orthogonal(0.9, by_tensor=True)
  state, own = optimizer.init(PARAMS), alone.init(PARAMS)
  for seed in range(3):
    update, state = optimizer.update(draw(seed), state, PARAMS)
    expected, own = alone.update(draw(seed), own)
    jax.tree.map(lambda u, e: np.testing.assert_allclose(u, -0.5 * e, rtol=1e-5), update, expected)


def test_with_a_cadence_it_works_on_the_mean():
  config = OptimizerConfig(
    name="sgd", b1=0.0, clip_norm=0.0, learning_rate=1.0, orthogonal="global", cadence=2
  )
  optimizer = make_optimizer(config)
  state, total = optimizer.init(PARAMS), []
  for seed in range(4):
    update, state = optimizer.update(draw(seed), state, PARAMS)
    total.append(float(optax.tree.norm(update)))
  assert total[0] == total[2] == 0 and min(total[1], total[3]) > 0


def test_errors_say_what_is_wrong():
  with pytest.raises(ValueError, match="orthogonal='both'; use one of '', 'global', 'tensor'"):
    OptimizerConfig(orthogonal="both")
  with pytest.raises(ValueError, match="orthogonal_decay=1.0; use 0 to below 1"):
    OptimizerConfig(orthogonal_decay=1.0)
