"""Adapters and low-rank updates start as the identity, and are what their formulas say."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.adapters import BottleneckAdapter, LoraLinear
from perceiver_stream.nn.layers import Linear


def made(module, x):
  net = hk.without_apply_rng(hk.transform(lambda x: module()(x)))
  return net.apply, net.init(jax.random.key(0), x)


@pytest.mark.parametrize("shape", [(2, 5, 6), (3, 4)])
def test_an_adapter_starts_as_the_identity_and_learns(shape):
  x = jax.random.normal(jax.random.key(1), shape)
  apply, params = made(lambda: BottleneckAdapter(3), x)
  np.testing.assert_array_equal(apply(params, x), x)
  grads = jax.grad(lambda p: jnp.sum(apply(p, x) ** 2))(params)
  assert np.any(grads["adapter/up"]["w"]) and not np.any(grads["adapter/down"]["w"])
  assert params["adapter/down"]["w"].shape == (shape[-1], 3)


@pytest.mark.parametrize("rank", [1, 3])
def test_lora_starts_as_the_linear_map_and_is_one_of_low_rank(rank):
  x = jax.random.normal(jax.random.key(1), (2, 6))
  apply, params = made(lambda: LoraLinear(5, rank, name="map"), x)
  plain, own = made(lambda: Linear(5, name="map"), x)
  assert params["map"].keys() - own["map"].keys() == {"lora_down", "lora_up"}
  np.testing.assert_array_equal(apply(params, x), plain(params, x))
  changed = {"map": params["map"] | {"lora_up": jax.random.normal(jax.random.key(2), (rank, 5))}}
  joined = changed["map"]["w"] + changed["map"]["lora_down"] @ changed["map"]["lora_up"]
  expected = plain({"map": {"w": joined, "b": params["map"]["b"]}}, x)
  np.testing.assert_allclose(apply(changed, x), expected, atol=1e-5)


def test_without_rank_there_is_only_the_linear_map():
  x = jnp.ones((2, 6))
  apply, params = made(lambda: LoraLinear(5, name="map"), x)
  plain, own = made(lambda: Linear(5, name="map"), x)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, own)
  np.testing.assert_array_equal(apply(own, x), plain(own, x))
