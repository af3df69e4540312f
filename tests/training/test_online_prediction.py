"""The states that are kept are those of the stream, and the loss is that of future prediction."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.modalities import pixels
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.training.objectives import FuturePrediction, ObjectiveConfig, make
from perceiver_stream.training.objectives import online_prediction as online
from perceiver_stream.training.objectives.online_prediction import Piece, pieces

ROWS, WINDOWS = 2, 4


@functools.cache
def model_of(displacements):
  config = Config(
    modalities={"pixels": pixels.Config(height=8, width=8, patch=4, motion_levels=1)},
    core=PredictCorrectConfig(num_latents=4, latent_dim=8, num_heads=2),
    token_dim=8,
    query_dim=8,
    num_decoder_heads=2,
    displacements=displacements,
  )
  return perceiver_stream.build(config)


def setting(displacements, window, context):
  """Returns the objective, parameters, and ticks of a stream with a second recording."""
  model = model_of(displacements)
  objective = make(model, online.Config(window=window, context=context))
  rng, ticks = np.random.default_rng(0), objective.num_ticks + window * (WINDOWS - 1)
  stream = {"pixels": model.modalities["pixels"].random_observation(rng, (ticks, ROWS))}
  stream["is_first"] = np.zeros((ticks, ROWS), bool)
  stream["is_first"][0] = stream["is_first"][ticks // 2, 0] = True
  params = model.init(jax.random.key(0), {n: v[0] for n, v in stream.items()})
  rng = np.random.default_rng(1)  # so that no part of the model is zero
  return objective, jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape), params), stream


@pytest.mark.parametrize(
  ("displacements", "window", "context"), [((1, 4), 2, 0), ((0, 1, 3), 3, 2)]
)
def test_sources_are_states_of_the_stream(displacements, window, context):
  objective, params, stream = setting(displacements, window, context)
  longest = max(displacements)
  # Before the first window nothing is known; so its oldest ticks have to start a recording.
  begin = longest + context
  stream["is_first"][: begin + window] = False
  stream["is_first"][begin] = True
  states, _ = objective.model.observe(params, objective.model.initial_state(params, ROWS), stream)
  sources = jax.jit(objective.sources)
  state = objective.initial_state(params, ROWS)
  checked = 0
  for start in range(0, window * WINDOWS, window):
    piece = {n: v[start : start + objective.num_ticks] for n, v in stream.items()}
    found, state = sources(params, state, piece)
    assert {x.shape[:2] for x in jax.tree.leaves(state)} == {(ROWS, longest + 1)}
    for d, source in found.items():
      first = start + objective.num_ticks - window - d
      if first >= begin:
        expected = jax.tree.map(lambda x, f=first: x[f : f + window], states)
        checked += 1
        for a, b in zip(jax.tree.leaves(source), jax.tree.leaves(expected), strict=True):
          np.testing.assert_allclose(a, b, atol=2e-5)
  assert sorted(found) == list(displacements) and checked >= WINDOWS - 1


def test_a_window_from_the_start_scores_as_future_prediction():
  objective, params, stream = setting((1, 3), 4, 0)
  whole = FuturePrediction(objective.model, ObjectiveConfig(window=4))
  window = {n: v[: whole.num_ticks].copy() for n, v in stream.items()}
  window["is_first"][:] = True  # every tick starts a recording: no state matters
  window["is_first"][[3, 6]] = False
  window = jax.tree.map(jnp.asarray, window)
  (value, aux), grads = objective.loss_and_grad(
    params, objective.initial_state(params, ROWS), window
  )
  expected, other = whole.loss(params, objective.model.initial_state(params, ROWS), window)
  np.testing.assert_allclose(value, expected, rtol=1e-4)
  for key, score in other.scores.items():
    np.testing.assert_array_equal(aux.scores[key].valid, score.valid)
    np.testing.assert_allclose(aux.scores[key].model, score.model, rtol=1e-4)
  assert any(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
  into_state = jax.grad(
    lambda latents: objective.loss(
      params, objective.initial_state(params, ROWS)._replace(latents=latents), window
    )[0]
  )(objective.initial_state(params, ROWS).latents)
  assert not np.any(np.asarray(into_state))


def test_pieces_share_the_newest_ticks_up_to_the_context():
  assert pieces((0, 1, 16), 0) == (Piece(0, (0,)), Piece(1, (1,)), Piece(16, (16,)))
  assert pieces((1, 2, 16), 2) == (Piece(0, (1, 2)), Piece(16, (16,)))
  assert pieces((3,), 2) == (Piece(0, ()), Piece(3, (3,)))


def test_what_does_not_fit_is_refused():
  objective, params, stream = setting((1, 4), 2, 3)
  assert objective.num_ticks == 2 + 4 + 3
  with pytest.raises(ValueError, match="context=-1 ticks; use 0 or more"):
    dataclasses.replace(objective.config, context=-1).validate()
  with pytest.raises(ValueError, match=r"OnlinePrediction: the window has 6 ticks, expected 9 = "):
    short = {n: jnp.asarray(v[:6]) for n, v in stream.items()}
    objective.loss(params, objective.initial_state(params, ROWS), short)
