"""Latent prediction on a model of two operations: teacher, scores, recordings, stopped gradients.

`tests/configs` trains a `stream_perceiver` by it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.models.base import Model
from perceiver_stream.training import objectives
from perceiver_stream.training.objectives import latent_prediction

ROWS, WINDOW, LATENTS, DIM = 3, 2, 4, 6


def small_model() -> Model:
  """Returns a model whose latents are running sums of its inputs times a matrix."""

  def observe(params, state, window):
    latents = state[None] + jnp.cumsum(window["x"] @ params["core"]["w"], axis=0)
    return latents, latents[-1]

  absent = lambda *args: pytest.fail("not needed for latents")  # noqa: E731
  return Model(
    **dict.fromkeys(("step", "unroll", "decode", "predict", "network"), absent),
    modalities={},
    config=None,
    displacements=(1, 2),
    init=lambda rng, tick: {"core": {"w": jax.random.normal(rng, (DIM, DIM))}},
    initial_state=lambda params, rows=1, rng=None: jnp.zeros((rows, LATENTS, DIM)),
    observe=observe,
    latents=lambda params, states: states,
  )


@functools.cache
def setting(**changes):
  """Returns the objective, its loss with gradient, parameters, state and a window."""
  config = latent_prediction.Config(window=WINDOW, momentum=0.75, num_heads=2, **changes)
  made, rng = latent_prediction.LatentPrediction(small_model(), config), np.random.default_rng(0)
  shape = (made.num_ticks, ROWS, LATENTS, DIM)
  window = {"x": jnp.asarray(rng.normal(size=shape), jnp.float32)}
  window["is_first"] = jnp.zeros(shape[:2], bool).at[0].set(True)
  params = made.init_params(jax.random.key(0), {"x": window["x"][0]})
  return made, jax.jit(made.loss_and_grad), params, made.initial_state(params, ROWS), window


def test_scores_gradients_and_the_state_that_continues():
  made, learn, params, state, window = setting()
  (value, aux), grads = learn(params, state, window)
  assert np.isfinite(value)
  assert {"latents@1", "latents@2", "collapse_alarm@0"} <= set(aux.scores)
  assert aux.scores["latents@2"].model.shape == (WINDOW, ROWS)
  assert jax.tree.structure(aux.next_state) == jax.tree.structure(state)
  model, predictor = made.split(grads)
  assert all(any(np.any(x) for x in v.values()) for v in predictor.values())
  assert np.any(model["core"]["w"])
  np.testing.assert_allclose(
    aux.next_state.student_state,
    made.model.observe(params, state.student_state, window)[0][WINDOW - 1],
    rtol=1e-5,
  )
  moved = params | {"core": {"w": params["core"]["w"] + 0.5}}
  (_, later), _ = learn(moved, state, window)
  new, old = (tree["core"]["w"] for tree in (later.next_state.teacher, state.teacher))
  np.testing.assert_allclose(new, old + 0.125, rtol=1e-4, atol=1e-5)


def test_pairs_of_two_recordings_do_not_count():
  _, learn, params, state, window = setting()
  cut = window | {"is_first": window["is_first"].at[-1, 1].set(True)}
  (_, aux), _ = learn(params, state, cut)
  assert aux.scores["latents@1"].valid.tolist() == [[True] * 3, [True, False, True]]


def test_copying_a_constant_latent_is_perfect():
  _, learn, params, state, window = setting()
  still = window | {"x": window["x"].at[1:].set(0.0)}
  (_, aux), _ = learn(params, state, still)
  np.testing.assert_allclose(aux.scores["latents@1"].baselines["copy"], 0, atol=1e-5)
  assert np.all(aux.scores["latents@1"].model > 0.1)


def test_only_models_with_latents_that_look_ahead():
  with pytest.raises(ValueError, match="It is no stream_perceiver"):
    objectives.make(zoo.build("rvm/nano"), latent_prediction.Config())
  with pytest.raises(ValueError, match="use 1 or more"):
    latent_prediction.Config(displacements=(0,)).validate()
  with pytest.raises(ValueError, match="momentum=2"):
    latent_prediction.Config(momentum=2.0).validate()
