"""Cosine regression: closed forms, the floor, and where gradients go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.losses.cosine_regression import bootstrap_regression, cosine_regression


@pytest.mark.parametrize("angle", [0.0, 0.5, np.pi / 2, np.pi])
@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_it_is_one_minus_the_cosine_at_any_length(angle, scale):
  x, y = jnp.asarray([3.0, 0.0]), scale * jnp.asarray([np.cos(angle), np.sin(angle)], jnp.float32)
  assert float(cosine_regression(x, y)) == pytest.approx(1 - np.cos(angle), abs=1e-6)


def test_of_a_zero_vector_it_is_half_with_a_finite_gradient():
  zero, other = jnp.zeros(3), jnp.asarray([0.0, 2.0, 0.0])
  assert float(cosine_regression(zero, other)) == pytest.approx(0.5)
  gradient = jax.grad(lambda x: cosine_regression(x, other))(zero)
  np.testing.assert_allclose(gradient, [0, -1e5, 0], rtol=1e-5)


@pytest.mark.parametrize("stop", [True, False])
def test_the_target_has_a_gradient_only_in_the_ablation(stop):
  rng = np.random.default_rng(0)
  pair = [jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(2)]
  loss = lambda h, z: bootstrap_regression(h, z, stop_gradient=stop)  # noqa: E731
  of_h, of_z = jax.grad(loss, (0, 1))(*pair)
  assert bool(jnp.any(of_h != 0)) and bool(jnp.any(of_z != 0)) != stop
