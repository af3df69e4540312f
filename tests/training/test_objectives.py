"""Which pairs are learnt from, which are scored, and when."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceiver_stream
from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.modalities import audio, pixels
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.training.objectives import (
  FuturePrediction,
  ObjectiveConfig,
  same_recording,
)

WINDOW, DISPLACEMENTS, ROWS = 3, (0, 1, 4), 2
TICKS = WINDOW + max(DISPLACEMENTS)


@functools.cache
def setting(**options):
  config = Config(
    modalities={
      "pixels": pixels.Config(height=8, width=8, patch=4, motion_levels=1),
      "audio": audio.Config(num_samples=256, window=128, hop=128, num_mels=4),
    },
    core=PredictCorrectConfig(num_latents=4, latent_dim=8, num_heads=2),
    token_dim=8,
    query_dim=8,
    num_decoder_heads=2,
    displacements=DISPLACEMENTS,
  )
  model = perceiver_stream.build(config)
  rng = np.random.default_rng(0)
  window = {
    n: jnp.asarray(m.random_observation(rng, (TICKS, ROWS))) for n, m in model.modalities.items()
  }
  window["is_first"] = jnp.zeros((TICKS, ROWS), bool).at[0].set(True)
  params = model.init(jax.random.key(0), {n: v[0] for n, v in window.items()})
  objective = FuturePrediction(model, ObjectiveConfig(window=WINDOW, **options))
  state = model.initial_state(params, ROWS)
  return objective, jax.jit(objective.loss), params, state, window


def test_an_untrained_model_scores_like_copying_and_its_relative_loss_is_zero():
  _, loss, params, state, window = setting()
  value, aux = loss(params, state, window)
  np.testing.assert_allclose(value, 0.0, atol=1e-5)
  assert sorted(aux.scores) == sorted(
    f"{m}@{d}" for m in ("pixels", "audio") for d in DISPLACEMENTS
  )
  for score in aux.scores.values():
    assert score.model.shape == (WINDOW, ROWS)
    np.testing.assert_allclose(score.model, score.baselines["copy"], rtol=1e-4, atol=1e-7)
    assert np.all(score.valid)


def test_scores_compare_the_last_ticks_with_what_came_before_them():
  _, loss, params, state, window = setting()
  frames = np.asarray(window["pixels"], np.float32) / 255
  _, aux = loss(params, state, window)
  for displacement in DISPLACEMENTS:
    targets = frames[TICKS - WINDOW :]
    sources = frames[TICKS - WINDOW - displacement : TICKS - displacement]
    expected = np.mean((targets - sources) ** 2, axis=(2, 3, 4))
    np.testing.assert_allclose(
      aux.scores[f"pixels@{displacement}"].baselines["copy"], expected, rtol=1e-4, atol=1e-9
    )


def test_the_next_window_starts_where_this_one_said():
  objective, loss, params, state, window = setting()
  _, aux = loss(params, state, window)
  _, state_then = objective.model.unroll(
    params, state, {n: v[:WINDOW] for n, v in window.items()}, ()
  )
  for a, b in zip(jax.tree.leaves(aux.next_state), jax.tree.leaves(state_then), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_pairs_across_the_start_of_a_recording_do_not_count():
  _, loss, params, state, window = setting()
  cut = dict(window, is_first=window["is_first"].at[5, 1].set(True))
  _, aux = loss(params, state, cut)
  valid = {d: np.asarray(aux.scores[f"pixels@{d}"].valid) for d in DISPLACEMENTS}
  assert valid[0].all()
  np.testing.assert_array_equal(valid[1][:, 1], [True, False, True])  # targets 4, 5, 6
  np.testing.assert_array_equal(valid[4][:, 1], [True, False, False])
  assert valid[1][:, 0].all() and valid[4][:, 0].all()


def test_same_recording_against_a_loop():
  rng = np.random.default_rng(0)
  is_first = rng.random((12, 3)) < 0.2
  for displacement in (1, 2, 5):
    got = same_recording({"is_first": jnp.asarray(is_first)}, displacement, 6)
    for i, t in enumerate(range(6, 12)):
      expected = ~is_first[t - displacement + 1 : t + 1].any(axis=0)
      np.testing.assert_array_equal(got[i], expected)


def test_what_is_not_valid_changes_neither_loss_nor_gradient():
  objective, _, params, state, window = setting()
  valid = jnp.ones((TICKS, ROWS), bool).at[5, 0].set(False)
  grad = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
  (one, aux), first = grad(params, state, dict(window, audio_valid=valid))
  rubbish = window["audio"].at[5, 0].set(jnp.nan)
  (two, _), second = grad(params, state, dict(window, audio=rubbish, audio_valid=valid))
  np.testing.assert_allclose(one, two, atol=1e-6)
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    assert np.all(np.isfinite(b))
    np.testing.assert_allclose(a, b, atol=1e-5)
  assert not aux.scores["audio@0"].valid[1, 0] and aux.scores["audio@0"].valid[1, 1]


def test_no_gradient_flows_into_the_carried_state():
  objective, _, params, state, window = setting()
  gradient = jax.grad(
    lambda latents: objective.loss(params, state._replace(latents=latents), window)[0]
  )
  assert not np.any(np.asarray(gradient(state.latents)))


def test_recomputing_the_decoder_changes_nothing():
  _, plain, params, state, window = setting()
  _, again, *_ = setting(remat_decode=True)
  np.testing.assert_allclose(
    plain(params, state, window)[0], again(params, state, window)[0], atol=1e-6
  )


def test_predictions_carry_the_flow_and_every_displacement():
  _, loss, params, state, window = setting()
  _, aux = loss(params, state, window)
  assert aux.predictions["pixels@4"].shape == (WINDOW, ROWS, 8, 8, 3)
  assert aux.predictions["pixels_flow@1"].shape == (WINDOW, ROWS, 8, 8, 2)
  assert aux.predictions["audio@0"].shape == (WINDOW, ROWS, 2, 4)


def test_weights_of_displacements_are_used():
  objective, *_ = setting()
  _, only, params, state, window = setting(relative=False, displacement_weights=(0.0, 0.0, 1.0))
  value, aux = only(params, state, window)
  sound = aux.scores["audio@4"]
  assert value > 0 and np.all(sound.model > 0)
  other = dataclasses.replace(objective.config, displacement_weights=(1.0,))
  with pytest.raises(
    ValueError, match=r"1 displacement_weights \(1.0,\) for the displacements \(0, 1, 4\)"
  ):
    FuturePrediction(objective.model, other)


def test_a_window_of_the_wrong_length_is_refused():
  objective, _, params, state, window = setting()
  short = {n: v[:-1] for n, v in window.items()}
  with pytest.raises(ValueError, match="the window has 6 ticks, expected 7 = window 3 \\+ longest"):
    objective.loss(params, state, short)
  with pytest.raises(ValueError, match="window=0 ticks"):
    ObjectiveConfig(window=0).validate()


@pytest.mark.slow
def test_learning_beats_copying_on_a_moving_square():
  """The whole point, at its smallest: a square that moves on is predicted better than copied."""
  objective, _, params, state, _ = setting()
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(2e-3, decay=0.95))
  opt_state = optimizer.init(params)

  @jax.jit
  def update(params, opt_state, state, window):
    (_, aux), gradient = jax.value_and_grad(objective.loss, has_aux=True)(params, state, window)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, aux

  gains = []
  for i in range(150):
    frames = np.full((TICKS, ROWS, 8, 8, 3), 30, np.uint8)
    for t in range(TICKS):
      column = (i * WINDOW + t) % 8
      frames[t, :, 2:5, [column, (column + 1) % 8]] = 220
    params, opt_state, aux = update(params, opt_state, state, {"pixels": jnp.asarray(frames)})
    state = aux.next_state
    score = aux.scores["pixels@1"]
    gains.append(float(10 * np.log10(np.mean(score.baselines["copy"]) / np.mean(score.model))))
  assert abs(gains[0]) < 1e-3
  assert np.mean(gains[-20:]) > 1.0
