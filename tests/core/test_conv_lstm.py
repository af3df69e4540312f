"""A ConvLSTM is the one of the paper, tick by tick or all ticks at once."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.core.conv_lstm import ConvLstm, ConvLstmState

TICKS, ROWS, GRID, DIM, KERNEL = 4, 2, (4, 5), 3, 3


@pytest.fixture(scope="module")
def built():
  """Returns `step`, `unroll`, parameters, inputs, flags and a state that is not zero."""

  def functions():
    core = ConvLstm(GRID, DIM, kernel=KERNEL, name="core")
    return lambda *inputs: core.unroll(*inputs), (core, core.unroll)

  rng = np.random.default_rng(0)
  some = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  x, state = (
    some(TICKS, ROWS, *GRID, 2),
    ConvLstmState(some(ROWS, *GRID, DIM), some(ROWS, *GRID, DIM)),
  )
  first = jnp.zeros((TICKS, ROWS), bool).at[2, 1].set(True)
  transformed = hk.multi_transform(functions)
  params = transformed.init(jax.random.key(0), x, first, state)
  step, unroll = (jax.jit(lambda p, *a, f=f: f(p, None, *a)) for f in transformed.apply)
  return step, unroll, params, x, first, state


def test_all_ticks_at_once_are_ticks_one_by_one(built):
  step, unroll, params, x, first, state = built
  states = unroll(params, x, first, state)
  for tick in range(TICKS):
    output, state = step(params, (x[tick], first[tick]), state)
    np.testing.assert_allclose(output, states.hidden[tick], atol=1e-5)
    np.testing.assert_allclose(state.cell, states.cell[tick], atol=1e-5)


def test_a_tick_is_the_formula(built):
  _, unroll, params, x, first, state = built
  weights = {n: np.asarray(v) for m in params.values() for n, v in m.items()}
  recurrent = weights["recurrent_w"].reshape(KERNEL, KERNEL, DIM, 4 * DIM)
  gates = convolved(x[0], weights["w"]) + convolved(state.hidden, recurrent) + weights["b"]
  i, f, g, o = np.split(gates, 4, axis=-1)
  sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
  cell = sigmoid(f + 1) * np.asarray(state.cell) + sigmoid(i) * np.tanh(g)
  after = unroll(params, x, first, state)
  np.testing.assert_allclose(after.cell[0], cell, atol=1e-5)
  np.testing.assert_allclose(after.hidden[0], sigmoid(o) * np.tanh(cell), atol=1e-5)


def test_a_recording_knows_nothing_of_the_one_before(built):
  _, unroll, params, x, first, state = built
  states = unroll(params, x, first, state)
  fresh = unroll(params, x[2:], first[2:], jax.tree.map(jnp.zeros_like, state))
  np.testing.assert_allclose(states.hidden[2:, 1], fresh.hidden[:, 1], atol=1e-5)
  assert not np.allclose(states.hidden[2:, 0], fresh.hidden[:, 0], atol=1e-3)


def convolved(pictures, weight):
  """Returns a 'SAME' convolution, place by place."""
  edge = KERNEL // 2
  padded = np.pad(np.asarray(pictures), ((0, 0), (edge, edge), (edge, edge), (0, 0)))
  out = np.zeros((*pictures.shape[:3], weight.shape[-1]))
  for y, x in np.ndindex(GRID):
    patch = padded[:, y : y + KERNEL, x : x + KERNEL]
    out[:, y, x] = np.einsum("bijc,ijcd->bd", patch, weight)
  return out
