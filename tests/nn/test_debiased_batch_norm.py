"""Batch norms whose state is explicit: closed forms, and one batch over replicas and devices."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from perceiver_stream.nn.debiased_batch_norm import NormMode, batch_norm

NET = hk.transform_with_state(lambda x, mode: batch_norm(x, mode, name="norm"))
TRAIN, EVAL = NormMode(True), NormMode(False)


def batches(*shape):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(3, 2, shape).astype(np.float32)) for _ in range(3)]


@pytest.mark.parametrize("shape", [(7, 3), (4, 2, 5, 3)])
def test_running_statistics_are_debiased_means_of_the_batches(shape):
  xs = batches(*shape)
  params, state = NET.init(None, xs[0], TRAIN)
  hidden = 0.0
  for x in xs:
    y, state = NET.apply(params, state, None, x, TRAIN)
    rows = x.reshape(-1, 3)
    want = (rows - rows.mean(0, keepdims=True)) / np.sqrt(rows.var(0, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y.reshape(-1, 3), want, atol=1e-5)
    hidden = 0.9 * hidden + 0.1 * np.asarray(rows.var(0))
  count = int(state["norm/~/var_ema"]["counter"])
  assert count == len(xs)
  average = np.asarray(state["norm/~/var_ema"]["average"]).ravel()
  np.testing.assert_allclose(average, hidden / (1 - 0.9**count), rtol=1e-5)
  y, after = NET.apply(params, state, None, xs[0], EVAL)
  mean = np.asarray(state["norm/~/mean_ema"]["average"])
  np.testing.assert_allclose(y, (np.asarray(xs[0]) - mean) / np.sqrt(average + 1e-5), atol=1e-5)
  assert jax.tree.all(jax.tree.map(jnp.array_equal, state, after))


def test_a_mean_far_above_the_deviation_costs_no_digits():
  x = batches(64, 3)[0] + 1000.0
  params, state = NET.init(None, x, TRAIN)
  y, _ = NET.apply(params, state, None, x, TRAIN)
  exact = np.asarray(x, np.float64)
  want = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
  np.testing.assert_allclose(y, want, atol=2e-4)


def test_replicas_and_devices_are_one_batch():
  x = batches(6, 3)[0]
  params, state = NET.init(None, x, TRAIN)
  whole, after = NET.apply(params, state, None, x, TRAIN)
  mode = NormMode(True, "replicas")
  apply = lambda part: NET.apply(params, state, None, part, mode)  # noqa: E731
  parts, each = jax.vmap(apply, axis_name="replicas")(x.reshape(2, 3, 3))
  np.testing.assert_allclose(parts.reshape(6, 3), whole, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-6), each, after)
  rows = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data"))
  sharded, there = jax.jit(lambda x: NET.apply(params, state, None, x, TRAIN))(
    jax.device_put(x, rows)
  )
  np.testing.assert_allclose(sharded, whole, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), there, after)
