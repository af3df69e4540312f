"""The core of competing slots: competition, symmetry, and the streaming rules of a core."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.core.base import CoreInputs
from perceiver_stream.core.slots import SlotConfig, Slots

ROWS, TOKENS, SLOTS, DIM = 2, 5, 3, 8
X = jax.random.normal(jax.random.key(0), (ROWS, TOKENS, 6))
S = jax.random.normal(jax.random.key(1), (ROWS, SLOTS, DIM))


@pytest.fixture(scope="module")
def core():
  """Returns step, correct and initial_state of a core with two heads, rounds and an MLP."""
  config = SlotConfig(
    num_slots=SLOTS, dim=DIM, num_heads=2, num_iterations=2, mlp_dim=7, predictor_heads=2
  )

  def functions():
    net = Slots(config)
    init = lambda: net(CoreInputs(X), net.initial_state(ROWS))  # noqa: E731
    return init, (net, net.correct, lambda: net.initial_state(ROWS))

  transformed = hk.multi_transform(functions)
  params = transformed.init(jax.random.key(2))
  return [jax.jit(lambda *a, f=f: f(params, None, *a)) for f in transformed.apply]


def test_slots_compete_for_every_token_and_have_no_order(core):
  _, correct, _ = core
  slots, weights = correct(S, X)
  np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)
  turned, _ = correct(S[:, ::-1], X)
  np.testing.assert_allclose(turned, slots[:, ::-1], atol=1e-5)
  shuffled, _ = correct(S, X[:, ::-1])
  np.testing.assert_allclose(shuffled, slots, atol=1e-5)


def test_resets_starts_and_missing_observations(core):
  step, correct, initial = core
  first = initial()
  state, _ = step(CoreInputs(X), first)
  none = jnp.array([True, False])
  blind, _ = step(CoreInputs(X, valid=none), state)
  np.testing.assert_allclose(blind.corrected[1], state.predicted[1])
  assert not np.allclose(blind.corrected[0], state.predicted[0], atol=1e-3)
  reset, _ = step(CoreInputs(X, is_first=none, start=S), state)
  fresh, _ = correct(S, X)
  on, _ = step(CoreInputs(X), state)
  np.testing.assert_allclose(reset.corrected[0], fresh[0], atol=1e-5)
  np.testing.assert_allclose(reset.corrected[1], on.corrected[1], atol=1e-5)
  learned, _ = step(CoreInputs(X, is_first=none), state)
  again, _ = step(CoreInputs(X), first)
  np.testing.assert_allclose(learned.corrected[0], again.corrected[0], atol=1e-5)
