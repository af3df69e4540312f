"""The gated LRU: a parallel scan that is its steps, in any pieces."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.core.causal import causal_taps
from perceiver_stream.core.lru import GatedLru, GatedLruConfig
from perceiver_stream.nn import BlockLinear

TICKS, ROWS, TOKENS, DIM = 9, 2, 3, 5
X = jax.random.normal(jax.random.key(0), (TICKS, ROWS, TOKENS, DIM))
FIRST = jnp.zeros((TICKS, ROWS), bool).at[0].set(True).at[5, 1].set(True)
NONE = jnp.zeros((TICKS, ROWS), bool)


OPTIONS = {
  "full gates": GatedLruConfig(dim=4),
  "as released": GatedLruConfig.released(4, 2, min_radius=0.6),
}


@pytest.fixture(scope="module", params=OPTIONS)
def lru(request):
  """Returns initial_state, step and unroll of a unit, and its parameters."""

  def functions():
    unit = GatedLru(OPTIONS[request.param], TOKENS, name="lru")
    step = lambda x, first, state: unit((x, first), state)  # noqa: E731
    init = lambda: unit.unroll(X, NONE, unit.initial_state(ROWS))  # noqa: E731
    return init, (lambda: unit.initial_state(ROWS), step, unit.unroll)

  transformed = hk.multi_transform(functions)
  params = transformed.init(jax.random.key(1))
  return [jax.jit(lambda *a, f=f: f(params, None, *a)) for f in transformed.apply], params


@pytest.mark.parametrize("first", [NONE, FIRST], ids=["one recording", "resets"])
def test_the_parallel_scan_is_the_steps(lru, first):
  (initial, step, unroll), _ = lru
  outputs, states = unroll(X, first, initial())
  state = initial()
  for tick in range(TICKS):
    output, state = step(X[tick], first[tick], state)
    np.testing.assert_allclose(output, outputs[tick], atol=1e-5)
    jax.tree.map(lambda a, b, t=tick: np.testing.assert_allclose(a, b[t], atol=1e-5), state, states)


def test_any_pieces_give_the_same(lru):
  (initial, _, unroll), _ = lru
  whole, _ = unroll(X, FIRST, initial())
  state, parts = initial(), []
  for piece in (slice(0, 1), slice(1, 3), slice(3, 9)):
    y, states = unroll(X[piece], FIRST[piece], state)
    state = jax.tree.map(lambda s: s[-1], states)
    parts.append(y)
  np.testing.assert_allclose(jnp.concatenate(parts), whole, atol=1e-5)


def test_a_reset_is_a_fresh_start_of_its_row(lru):
  (initial, _, unroll), _ = lru
  reset, _ = unroll(X, FIRST, initial())
  fresh, _ = unroll(X[5:], NONE[5:].at[0].set(True), initial())
  on, _ = unroll(X, NONE.at[0].set(True), initial())
  np.testing.assert_allclose(reset[5:, 1], fresh[:, 1], atol=1e-6)
  np.testing.assert_allclose(reset[:, 0], on[:, 0], atol=1e-6)
  assert not np.allclose(reset[5:, 1], on[5:, 1], atol=1e-4)


def test_it_remembers_but_does_not_look_ahead_nor_aside(lru):
  (initial, _, unroll), _ = lru
  plain, _ = unroll(X, NONE, initial())
  other, _ = unroll(X.at[4, 0, 1].add(3.0), NONE, initial())
  np.testing.assert_array_equal(plain[:4], other[:4])
  changed = np.abs(np.asarray(plain - other)).max((0, 3))
  assert changed[0, 1] > 1e-3
  assert np.sum(changed > 0) == 1, "tokens and rows are their own"
  assert np.abs(plain[-1, 0, 1] - other[-1, 0, 1]).max() > 1e-5


def test_decays_lie_in_the_ring_at_the_start(lru):
  _, params = lru
  decay = np.exp(-8.0 * jax.nn.softplus(params["lru"]["decay"]))
  assert np.all((decay >= 0.6) & (decay <= 0.999))


def test_the_first_step_has_the_whole_input_as_released():
  def first_state(config):
    unit = lambda: GatedLru(config, TOKENS, name="lru")  # noqa: E731
    run = hk.transform(lambda: unit().unroll(X[:2], FIRST[:2], unit().initial_state(ROWS)))
    return run.apply(run.init(jax.random.key(1)), None)[1].hidden

  ours, theirs = (
    first_state(GatedLruConfig(dim=4, gate_blocks=2)),
    first_state(OPTIONS["as released"]),
  )
  assert np.all(np.abs(ours[0]) < np.abs(theirs[0]))
  assert not np.allclose(ours[1], theirs[1])


def test_gates_that_do_not_divide_the_width_are_refused():
  with pytest.raises(ValueError, match="dim=5 is not a multiple of gate_blocks=2"):
    GatedLruConfig.released(5, 2).validate()


def test_block_diagonal_gates_mix_only_their_own_channels():
  layer = hk.without_apply_rng(hk.transform(lambda x: BlockLinear(3, name="gate")(x)))
  x = jax.random.normal(jax.random.key(2), (4, 6))
  params = layer.init(jax.random.key(3), x)
  w = jax.scipy.linalg.block_diag(*params["gate"]["w"])
  np.testing.assert_allclose(layer.apply(params, x), x @ w, atol=1e-6)


def test_taps_are_the_past_of_the_recording():
  x = jnp.arange(1.0, 6.0).reshape(5, 1, 1)
  first = jnp.array([False, False, True, False, False])[:, None]
  taps = causal_taps(x, jnp.array([[[-1.0], [0.5]]]), first)
  expected = [[-1, 0.5, 1], [0.5, 1, 2], [0, 0, 3], [0, 3, 4], [3, 4, 5]]
  np.testing.assert_array_equal(taps[:, 0, :, 0], expected)
