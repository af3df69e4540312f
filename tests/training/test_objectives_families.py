"""Every objective of the published families: against plain definitions, and through the one loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import training, zoo
from perceiver_stream.models.moog import objective as next_frame
from perceiver_stream.models.rvm import objective as masked_future
from perceiver_stream.streams import synthetic
from perceiver_stream.training import objectives
from perceiver_stream.training.objectives import autoencoding, flow, future_prediction

ROWS = 2
CASES = {
  "moog/nano": next_frame.Config(window=3, score_ticks=2),
  "rvm/nano": masked_future.Config(window=3, num_targets=3),
  "perceiver_flow/nano": flow.Config(window=2),
  "perceiver_autoencoder/nano": autoencoding.Config(window=2),
}


@functools.cache
def setting(name):
  """Returns the objective, its loss with gradient, parameters, state and a window."""
  model = zoo.build(name)
  objective = objectives.make(model, CASES[name])
  ticks, rng = objective.config.window + objective.look_ahead, np.random.default_rng(0)
  names = set(model.modalities) - {"label"}
  window = {
    n: jnp.asarray(model.modalities[n].random_observation(rng, (ticks, ROWS)))
    for n in sorted(names)
  }
  window["is_first"] = jnp.zeros((ticks, ROWS), bool).at[0].set(True)
  params = model.init(jax.random.key(0), {n: v[0] for n, v in window.items()})
  loss = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
  return objective, loss, params, model.initial_state(params, ROWS), window


@functools.cache
def answer(name):
  _, loss, params, state, window = setting(name)
  return loss(params, state, window, jax.random.key(1))


def pixels(window):
  return np.asarray(window["pixels"], np.float32) / 255


@pytest.mark.parametrize("name", CASES)
def test_an_objective_gives_what_the_loop_needs(name):
  objective, _, _, state, _ = setting(name)
  (value, aux), gradient = answer(name)
  assert np.isfinite(value) and isinstance(objective, objectives.Objective)
  assert jax.tree.structure(aux.next_state) == jax.tree.structure(state)
  for new, old in zip(jax.tree.leaves(aux.next_state), jax.tree.leaves(state), strict=True):
    assert new.shape == old.shape and new.dtype == old.dtype
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))
  for key, score in aux.scores.items():
    assert key.split("@")[0] in objective.outputs
    errors = score.errors()
    assert list(errors)[0] == "model" and list(errors)[-1] == "valid" and len(errors) > 2
    assert {e.shape for e in errors.values()} == {score.valid.shape}


def test_next_frame_scores_the_frame_that_comes_beside_the_one_before():
  _, _, params, _, window = setting("moog/nano")
  (_, aux), _ = answer("moog/nano")
  score, frames = aux.scores["pixels@1"], pixels(window)
  copy = np.mean((frames[1:] - frames[:-1]) ** 2, axis=(2, 3, 4))
  np.testing.assert_allclose(score.baselines["copy"], copy, rtol=1e-4)
  assert score.valid.all()  # the first tick, which nothing can be copied for, is not scored
  predicted = np.mean((np.asarray(aux.predictions["pixels@1"]) - frames[1:]) ** 2, axis=(2, 3, 4))
  np.testing.assert_allclose(score.model, predicted, rtol=1e-4)


def test_the_next_frame_is_predicted_without_seeing_it():
  _, loss, params, state, window = setting("moog/nano")
  other = dict(window, pixels=window["pixels"].at[-1].set(0))
  (_, one), _ = answer("moog/nano")
  (_, two), _ = loss(params, state, other, jax.random.key(1))
  np.testing.assert_allclose(
    one.predictions["pixels@1"], two.predictions["pixels@1"], rtol=1e-5, atol=1e-6
  )


def test_masked_future_scores_hidden_patches_beside_place_and_mean():
  objective, loss, params, state, window = setting("rvm/nano")
  (value, aux), _ = answer("rvm/nano")
  valid = np.stack([s.valid for s in aux.scores.values()])
  np.testing.assert_array_equal(valid.sum(axis=0), 1)  # every target has one displacement
  still = dict(window, pixels=jnp.broadcast_to(window["pixels"][:1], window["pixels"].shape))
  (_, same), _ = loss(params, state, still, jax.random.key(1))
  score = same.scores["pixels@1"]
  np.testing.assert_allclose(score.baselines["same_place"], 0, atol=1e-9)
  assert score.baselines["visible_mean"].min() > 0
  grey = dict(window, pixels=jnp.full_like(window["pixels"], 100))
  (_, flat), _ = loss(params, state, grey, jax.random.key(1))
  np.testing.assert_allclose(flat.scores["pixels@1"].baselines["visible_mean"], 0, atol=1e-9)
  chosen = np.concatenate([np.asarray(s.model)[np.asarray(s.valid)] for s in aux.scores.values()])
  assert float(value) == pytest.approx(chosen.mean(), rel=1e-4)


def test_masked_targets_of_another_recording_do_not_count():
  objective, loss, params, state, window = setting("rvm/nano")
  cut = dict(window, is_first=window["is_first"].at[objective.config.window, 0].set(True))
  (_, aux), _ = loss(params, state, cut, jax.random.key(1))
  for score in aux.scores.values():
    assert not score.valid[:, 0].any()


def test_flow_is_that_from_the_frame_before_and_unknown_pixels_do_not_count():
  _, loss, params, state, window = setting("perceiver_flow/nano")
  (value, aux), _ = answer("perceiver_flow/nano")
  score = aux.scores["flow@0"]
  length = np.linalg.norm(np.asarray(window["flow"][:-1]), axis=-1)
  np.testing.assert_allclose(score.baselines["zero_flow"], length.mean(axis=(2, 3)), rtol=1e-4)
  np.testing.assert_allclose(score.model, score.baselines["zero_flow"], rtol=1e-4)  # untrained
  agrees = dict(window, flow=jnp.zeros_like(window["flow"]))  # as the untrained model says
  _, gradient = loss(params, state, agrees, jax.random.key(1))
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  holes = dict(window, flow=window["flow"].at[0, 0, :8].set(jnp.nan).at[1, 1].set(jnp.nan))
  (value, aux), gradient = loss(params, state, holes, jax.random.key(1))
  assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  score = aux.scores["flow@0"]
  np.testing.assert_array_equal(score.valid, [[True, True], [True, False]])
  np.testing.assert_allclose(score.baselines["zero_flow"][0, 0], length[0, 0, 8:].mean(), rtol=1e-4)


def test_autoencoding_scores_both_modalities_beside_their_means():
  _, _, _, _, window = setting("perceiver_autoencoder/nano")
  (_, aux), _ = answer("perceiver_autoencoder/nano")
  frames, sound = pixels(window), np.asarray(window["audio"])
  score = aux.scores["pixels@0"]
  np.testing.assert_allclose(
    score.baselines["mean"], frames.var(axis=(2, 3)).mean(axis=-1), rtol=1e-3
  )
  blank = np.mean((frames - 0.5) ** 2, axis=(2, 3, 4))
  np.testing.assert_allclose(score.baselines["nothing"], blank, rtol=1e-4)
  silence = np.mean(sound**2, axis=2)
  np.testing.assert_allclose(aux.scores["audio@0"].baselines["nothing"], silence, rtol=1e-4)
  shown = np.mean((np.asarray(aux.predictions["pixels@0"]) - frames) ** 2, axis=(2, 3, 4))
  np.testing.assert_allclose(score.model, shown, rtol=1e-4)


def test_a_misfit_is_refused_with_what_fits():
  rvm = zoo.build("rvm/nano")
  with pytest.raises(
    ValueError, match="objective next_frame cannot train rvm: It is no MooG. Objectives for it: fut"
  ):
    objectives.make(rvm, next_frame.Config())
  with pytest.raises(ValueError, match="predicts no future"):
    objectives.make(zoo.build("perceiver_flow/nano"), future_prediction.Config())
  with pytest.raises(
    TypeError, match="is a builtins.dict, which belongs to no objective; use the Config"
  ):
    objectives.make(rvm, {})
  reads = ["point_tracking", "dense_reading"]
  assert objectives.fitting(rvm) == [
    "future_prediction",
    *reads,
    "online_prediction",
    "ego_motion",
    "masked_future",
  ]
  assert isinstance(objectives.default(zoo.build("perceiver_flow/nano")), flow.Config)
  assert objectives.fitting(zoo.build("perceiver_classifier/nano")) == []


def test_a_stream_without_labels_is_refused():
  with pytest.raises(ValueError, match=r"Flow needs \['flow'\], but the stream gives"):
    training.make_parts(
      training.ExperimentConfig(
        model="perceiver_flow/nano",
        stream=synthetic.Config(height=16, width=16, modalities=("pixels",)),
        objective=flow.Config(),
      )
    )


@pytest.mark.parametrize(
  "config, text",
  [
    (next_frame.Config(window=0), "next_frame: window=0 ticks"),
    (next_frame.Config(detach_prob=2.0), r"detach_prob=2.0 is not in \[0, 1\]"),
    (next_frame.Config(window=2, score_ticks=3), r"score_ticks=3; use 0 \(all\) to window=2"),
    (masked_future.Config(num_targets=0), "num_targets=0; use at least 1"),
    (masked_future.Config(displacements=(0,)), r"displacements=\(0,\); use 1 or more"),
    (autoencoding.Config(num_pixels=0), "num_pixels=0, num_patches=32; use at least 1"),
    (autoencoding.Config(window=2, score_ticks=3), "score_ticks=3"),
  ],
)
def test_configs_say_what_is_wrong(config, text):
  with pytest.raises(ValueError, match=text):
    config.validate()


def test_a_window_longer_than_the_clip_is_refused():
  with pytest.raises(ValueError, match="window=3 ticks, but the model's clip has 2"):
    objectives.make(zoo.build("perceiver_autoencoder/nano"), autoencoding.Config(window=3))
