"""V-JEPA's objective: teacher in the state, masks, invalid clips, collapse, resuming bit for bit."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import training, zoo
from perceiver_stream.inference import model_loading
from perceiver_stream.models.vjepa import objective as vjepa
from perceiver_stream.models.vjepa.config import MaskConfig
from perceiver_stream.nn.losses import collapse
from perceiver_stream.training import journal, objectives
from perceiver_stream.training.checkpoints import CheckpointConfig
from perceiver_stream.training.objectives import teacher
from perceiver_stream.training.objectives.latent_prediction import LatentPrediction

ROWS = 4


@functools.cache
def setting(**changes):
  """Returns the objective, its loss with gradient, parameters, state and a window."""
  model = zoo.build("vjepa_stream/nano")
  made = objectives.make(model, vjepa.Config(window=4, momentum=0.75, **changes))
  rng = np.random.default_rng(0)
  window = {
    "pixels": jnp.asarray(rng.integers(0, 255, (made.num_ticks, ROWS, 16, 16, 3), np.uint8))
  }
  window["is_first"] = jnp.zeros((made.num_ticks, ROWS), bool).at[0].set(True)
  params = made.init_params(jax.random.key(0), {"pixels": window["pixels"][0]})
  return made, jax.jit(made.loss_and_grad), params, made.initial_state(params, ROWS), window


def test_the_teacher_is_a_running_mean_of_the_student():
  _, learn, params, state, window = setting()
  later = jax.tree.map(lambda x: x + 1.0, params)
  (_, aux), _ = learn(later, state, window, jax.random.key(1))
  for new, old in zip(
    jax.tree.leaves(aux.next_state.teacher), jax.tree.leaves(state.teacher), strict=True
  ):
    np.testing.assert_allclose(new, old + 0.25, rtol=1e-5, atol=1e-6)
  assert aux.next_state.windows == 1
  at = [float(teacher.momentum_at(jnp.int32(n), 0.9, 1.0, 10)) for n in (0, 5, 99)]
  assert at == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize("objective", [vjepa.FeaturePrediction, LatentPrediction])
def test_a_window_that_is_only_watched_does_not_teach(objective):
  before, after = (
    teacher.Taught({"w": jnp.full(2, x)}, jnp.int32(x), jnp.full(1, x)) for x in (1.0, 2.0)
  )
  found = objective.watched_state(None, before, after)
  assert found.teacher is before.teacher and found.windows == 1 and found.student_state == 2


def test_masks_need_a_key():
  made, _, params, state, window = setting()
  with pytest.raises(ValueError, match="vjepa: masks are random; give a key as rng"):
    made.loss(params, state, window)


def test_scores_show_errors_and_collapse():
  made, learn, params, state, window = setting()
  (value, aux), grads = learn(params, state, window, jax.random.key(1))
  assert np.isfinite(value) and set(made.labels) == {key.split("@")[0] for key in aux.scores}
  assert aux.scores["features@0"].model.shape == (1, ROWS)
  unreached = [k for k, v in grads.items() if not any(np.any(x) for x in jax.tree.leaves(v))]
  assert not unreached, unreached


def test_clips_that_span_recordings_or_lack_a_frame_do_not_count():
  _, learn, params, state, window = setting()
  cut = window | {"is_first": window["is_first"].at[2, 1].set(True)}
  (one, aux), _ = learn(params, state, cut, jax.random.key(1))
  assert aux.scores["features@0"].valid.tolist() == [[True, False, True, True]]
  noise = cut | {"pixels": cut["pixels"].at[:, 1].set(7)}
  (two, _), _ = learn(params, state, noise, jax.random.key(1))
  assert one == two


def test_masks_that_hide_nothing_are_refused():
  config = zoo.config("vjepa_stream/nano")
  config.masks = (config.masks[0], MaskConfig(spatial_scale=(0.1, 0.2)))
  with pytest.raises(ValueError, match=r"blocks of masks\[1\] are empty: .*a grid of \(2, 2, 2\)"):
    objectives.make(zoo.build(config), vjepa.Config())


@jax.jit
def scores_of(features, counted):
  found = teacher.collapse_scores(features, counted, counted[None], 0.0)
  return {n.split("@")[0].removeprefix("collapse_"): x for n, x in found.items()}


def test_features_of_places_alone_ring_the_alarm_and_invalid_clips_do_not_count():
  noise = jax.random.normal(jax.random.key(0), (6, 30, 8))
  counted = jnp.array([True, True, False, True, False, True])
  black = noise.at[2].set(1e3).at[4].set(0.0)
  healthy, same = scores_of(black, counted), scores_of(black[counted], jnp.ones(4, bool))
  for name in healthy:
    np.testing.assert_allclose(healthy[name].model[0, 0], same[name].model[0, 0], rtol=1e-4)
  assert not healthy["alarm"].model.any() and healthy["clip_std"].model[0, 0] > 0.9
  places = jnp.broadcast_to(noise[:1], noise.shape).at[4].set(jnp.nan)
  found = scores_of(places, counted)
  assert found["std"].model[0, 0] > 0.9 and found["cosine"].model[0, 0] < 0.1
  assert found["clip_std"].model[0, 0] < 1e-3 and found["alarm"].model.all()
  alone = scores_of(places, jnp.arange(6) == 0)  # one clip: no comparison of clips
  assert not alone["alarm"].model.any() and not alone["clip_std"].valid.any()
  assert alone["std"].valid[0, 0] and not scores_of(places, jnp.zeros(6, bool))["alarm"].model.any()


def test_only_models_of_its_own():
  with pytest.raises(ValueError, match="It is no V-JEPA"):
    objectives.make(zoo.build("rvm/nano"), vjepa.Config())
  with pytest.raises(ValueError, match="momentum=2"):
    vjepa.Config(momentum=2.0).validate()


def test_resumed_runs_continue_bit_for_bit(tmp_path):
  config = training.load_config("vjepa:nano")
  config.logging.use_report = config.logging.use_tensorboard = False
  config.checkpoints = CheckpointConfig(every=2)
  config.max_windows, config.run_dir = 4, str(tmp_path / "whole")
  training.train(config)
  parts = dataclasses.replace(config, max_windows=2, run_dir=str(tmp_path / "parts"))
  training.train(parts)
  training.train(dataclasses.replace(parts, max_windows=4))
  whole, resumed = (model_loading.load(tmp_path / name) for name in ("whole", "parts"))
  jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)
  lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
  losses = [[line.split('"loss": ')[1].split(",")[0] for line in x.splitlines()] for x in lines]
  assert losses[0] == losses[1]


def test_the_log_says_once_that_features_collapse():
  lines = []
  log = types.SimpleNamespace(say=lines.append, collapsed=False)
  for number, alarm in enumerate([0.0, 1.0, 1.0, 0.0, 1.0]):
    values = {"alarm": alarm, "std": 0.01, "cosine": 0.99}
    scores = {f"collapse_{name}@0": {"model": value} for name, value in values.items()}
    journal.Journal._warn_of_collapse(log, number, scores)  # pyright: ignore[reportArgumentType]
  assert [line.split("window ")[1].split()[0] for line in lines] == ["1", "4"]
  journal.Journal._warn_of_collapse(log, 9, {"pixels@1": {"model": 1.0}})  # pyright: ignore[reportArgumentType]
  assert len(lines) == 2


def test_the_alarm():
  rng = jax.random.key(0)
  noise = jax.random.normal(rng, (400, 8))
  healthy = collapse.collapse(noise)
  assert healthy.std == pytest.approx(1, abs=0.05) and healthy.rank > 0.95
  assert abs(healthy.cosine) < 0.05 and collapse.alarm(healthy, 1.0) == 0
  constant = collapse.collapse(jnp.ones((50, 8)) + 1e-4 * noise[:50])
  assert constant.cosine > 0.99 and constant.std < 0.1 and collapse.alarm(constant) == 1
  line = noise[:, :1] * jnp.ones((1, 8)) + 1.0
  partial = collapse.collapse(line + 0.05 * noise)
  assert partial.rank < 0.5 and partial.cosine > 0.2
  assert collapse.alarm(partial, 1.0) == 1
  assert collapse.variance_loss(2 * noise) == 0
  assert collapse.variance_loss(jnp.ones((5, 3))) == pytest.approx(0.99)
  assert collapse.covariance_loss(jnp.ones((5, 3))) == 0
  two = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
  assert collapse.covariance_loss(two) == pytest.approx(4.0)
