import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def run():
  """run(make_module, *args) -> (output, params, function of params and args)."""

  def run(make, *args):
    transformed = hk.without_apply_rng(hk.transform(lambda *a: make()(*a)))
    params = jax.jit(transformed.init)(jax.random.key(0), *args)
    noise = np.random.default_rng(1)
    params = jax.tree.map(
      lambda p: p + jnp.asarray(0.1 * noise.normal(size=p.shape), p.dtype), params
    )  # biases, scales and offsets too
    apply = jax.jit(transformed.apply)
    return apply(params, *args), params, apply

  return run
