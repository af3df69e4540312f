"""Queries that are not conditioned on the input: every predicted change passes through the latents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import shaken

import perceiver_stream
from perceiver_stream.models.mapping import flatten
from perceiver_stream.models.stream_perceiver import BottleneckConfig


def config_of(conditioned: bool):
  bottleneck = BottleneckConfig(condition_queries_on_input=conditioned)
  return dataclasses.replace(
    perceiver_stream.config("stream_perceiver/nano"), bottleneck=bottleneck
  )


def watched(conditioned: bool):
  """Returns a model, shaken parameters, and a state after three ticks."""
  model = perceiver_stream.build(config_of(conditioned))
  rng = np.random.default_rng(0)
  seen = {n: jnp.asarray(m.random_observation(rng, (3, 2))) for n, m in model.modalities.items()}
  params = shaken(model.init(jax.random.key(0), jax.tree.map(lambda x: x[0], seen)))
  return model, params, model.unroll(params, model.initial_state(params, 2), seen)[1]


def predicted(model, params, state):
  return model.predict(params, state, (1, 4))


@pytest.mark.parametrize("conditioned", [True, False])
def test_motion_between_the_last_frames_reaches_a_prediction_only_if_conditioned(conditioned):
  model, params, state = watched(conditioned)
  other = state._replace(extra=jax.tree.map(lambda x: x + 1.0, state.extra))
  before, after = predicted(model, params, state), predicted(model, params, other)
  for name in ("pixels", "pixels_flow", "audio"):
    same = np.array_equal(before[name], after[name])
    assert same == (not conditioned or name == "audio"), name


@pytest.mark.parametrize("conditioned", [True, False])
def test_latents_reach_a_prediction_either_way(conditioned):
  model, params, state = watched(conditioned)
  other = state._replace(latents=-state.latents)
  before, after = predicted(model, params, state), predicted(model, params, other)
  assert not any(np.array_equal(before[name], after[name]) for name in before)


def test_unconditioned_queries_have_no_weights_for_the_input():
  local = {on: {n for n in flatten(watched(on)[1]) if "_local" in n} for on in (True, False)}
  assert len(local[True]) == 4 and not local[False]


def test_copying_is_still_where_it_starts():
  model = perceiver_stream.build(config_of(False))
  seen = {
    n: m.random_observation(np.random.default_rng(0), (1,)) for n, m in model.modalities.items()
  }
  params = model.init(jax.random.key(0), seen)
  _, state = model.step(params, model.initial_state(params, 1), seen)
  told = model.predict(params, state, (1,))["pixels"][:, 0]
  np.testing.assert_allclose(told, seen["pixels"] / 255.0, atol=1e-6)
