"""The recurrences over given parts: simple functions, so that every state is known."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.core import CoreInputs, Gated, PredictCorrect

STATE = jnp.asarray([[[1.0, 2.0]], [[3.0, 4.0]]])  # [B, L, D]
TOKENS = jnp.asarray([[[10.0, 20.0]], [[30.0, 40.0]]])
FLAGS = jnp.asarray([False, True])


def run(make, method, *args):
  return hk.without_apply_rng(hk.transform(lambda *a: getattr(make(), method)(*a))).apply({}, *args)


def predict_correct(norm_first: bool = False) -> PredictCorrect:
  return PredictCorrect(
    first=lambda rows: jnp.full((rows, 1, 2), 5.0),
    predict=lambda state: state + 1,
    correct=lambda predicted, inputs: predicted + inputs.tokens,
    norm=lambda state: state / 10,
    norm_first=norm_first,
    name="core",
  )


def gated(update: float, **options) -> Gated:
  return Gated(
    (1, 2),
    update=lambda e, state: jnp.full_like(state, update),
    reset=lambda e, state: jnp.full_like(state, 0.5),
    norm=lambda state: state * 4,
    propose=lambda e, memory: e + memory,
    name="core",
    **options,
  )


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_step_predicts_corrects_and_normalises(norm_first):
  core = lambda: predict_correct(norm_first)  # noqa: E731
  step, after = run(core, "step", CoreInputs(TOKENS), STATE)
  before = STATE / 10 if norm_first else STATE
  np.testing.assert_allclose(step.before, before)
  np.testing.assert_allclose(step.predicted, before + 1)
  expected = before + 1 + TOKENS
  np.testing.assert_allclose(step.corrected, expected if norm_first else expected / 10)
  np.testing.assert_array_equal(after, step.corrected)
  np.testing.assert_array_equal(after, run(core, "__call__", CoreInputs(TOKENS), STATE)[0])


def test_a_reset_row_starts_from_the_first_state_or_the_given_one():
  own = run(predict_correct, "step", CoreInputs(TOKENS, is_first=FLAGS), STATE)[0].before
  np.testing.assert_allclose(own, np.stack([STATE[0], np.full((1, 2), 5.0)]))
  given = CoreInputs(TOKENS, is_first=FLAGS, start=-STATE)
  found = run(predict_correct, "step", given, STATE)[0].before
  np.testing.assert_allclose(found, jnp.stack([STATE[0], -STATE[1]]))


def test_a_row_without_tokens_keeps_what_was_predicted():
  gone = CoreInputs(TOKENS.at[0].set(jnp.nan), valid=FLAGS)
  _, after = run(predict_correct, "step", gone, STATE)
  np.testing.assert_allclose(after, jnp.stack([STATE[0] + 1, STATE[1] + 1 + TOKENS[1]]) / 10)


def test_a_detached_row_passes_no_gradient():
  loss = lambda s: jnp.sum(run(predict_correct, "step", CoreInputs(TOKENS, detach=FLAGS), s)[1])  # noqa: E731
  np.testing.assert_allclose(jax.grad(loss)(STATE), [[[0.1, 0.1]], [[0.0, 0.0]]])


@pytest.mark.parametrize("norm_first", [True, False])
def test_ahead_predicts_from_predictions(norm_first):
  ahead = run(lambda: predict_correct(norm_first), "ahead", STATE, 3)
  state = STATE
  for predicted in ahead:
    np.testing.assert_allclose(predicted, (state / 10 if norm_first else state) + 1)
    state = predicted if norm_first else predicted / 10


def test_gates_mix_the_state_with_the_proposal():
  np.testing.assert_array_equal(run(lambda: gated(0.5), "initial_state", 3), np.zeros((3, 1, 2)))
  proposed = TOKENS + 0.5 * 4 * STATE
  for update in (0.0, 0.25, 1.0):
    output, after = run(lambda u=update: gated(u), "__call__", CoreInputs(TOKENS), STATE)
    np.testing.assert_allclose(after, (1 - update) * STATE + update * proposed)
    np.testing.assert_array_equal(output, after)


def test_gated_rows_are_reset_and_kept():
  inputs = CoreInputs(TOKENS, is_first=FLAGS, valid=~FLAGS)
  _, after = run(lambda: gated(1.0), "__call__", inputs, STATE)
  np.testing.assert_allclose(after, jnp.stack([TOKENS[0] + 2 * STATE[0], jnp.zeros((1, 2))]))


def test_gated_reads_as_given():
  core = lambda: gated(1.0, read=lambda inputs: -inputs.tokens)  # noqa: E731
  _, after = run(core, "__call__", CoreInputs(TOKENS), STATE)
  np.testing.assert_allclose(after, 2 * STATE - TOKENS)
