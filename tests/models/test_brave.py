"""BraVe's objective: views of a window, exact resumption, and a collapse that the monitor catches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import training
from perceiver_stream.models import brave, tsm_resnet
from perceiver_stream.models.brave import objective
from perceiver_stream.models.brave.variants import FAMILY, nano
from perceiver_stream.nn.losses.collapse import alarm, collapse
from perceiver_stream.streams import pulses
from perceiver_stream.training.checkpoints import Checkpoints
from perceiver_stream.training.loop import Run
from perceiver_stream.training.parts import make_parts


def experiment(folder, windows, **changes):
  config = training.load_config("brave:nano")
  config.run_dir, config.max_windows = str(folder), windows
  config.logging.use_tensorboard = config.logging.use_report = False
  return dataclasses.replace(config, **changes)


def learnt(config):
  """Returns the last checkpoint's state, read back by a run that has nothing left to do."""
  with Checkpoints(config.run_dir, config.checkpoints) as checkpoints:
    run = Run(make_parts(config), checkpoints)
    state = jax.tree.map(np.asarray, run.learner.state)
    run.close()
  return state


def test_a_resumed_run_has_the_same_parameters_and_statistics(tmp_path):
  training.train(experiment(tmp_path / "whole", 4))
  training.train(experiment(tmp_path / "parts", 2))
  summary = training.train(experiment(tmp_path / "parts", 4))
  assert summary.windows == 4 and summary.skipped == 0
  whole, parts = (
    learnt(experiment(tmp_path / "whole", 4)),
    learnt(experiment(tmp_path / "parts", 4)),
  )
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  counters = {int(x) for x in jax.tree.leaves(whole.model_state) if x.dtype == np.int32}
  assert counters == {4, 8}  # towers are seen once a window, the shared head twice


def windows_of(config, num):
  rows = make_parts(config)
  return rows.objective, [w for w, _ in zip(rows.windows, range(num), strict=False)]


def test_rows_that_lack_sound_or_span_recordings_change_nothing(tmp_path):
  config = experiment(tmp_path, 1)
  made, (window,) = windows_of(config, 1)
  window = {k: jnp.asarray(v) for k, v in window.items()} | {
    "is_first": jnp.zeros(window["pixels"].shape[:2], bool).at[0].set(True).at[5, 2].set(True)
  }
  heard = jnp.ones(window["pixels"].shape[:2], bool).at[3, 1].set(False)
  window["audio_valid"] = heard
  params = made.init_params(jax.random.key(0), {})
  learn, key = jax.jit(made.loss_and_grad), jax.random.key(1)
  first = made.initial_state(params, 4)
  found = []
  for fill in (jnp.nan, 0.5):
    missing = window | {"audio": window["audio"].at[3, 1].set(fill)}
    missing["pixels"] = missing["pixels"].at[6:, 2].set(int(100 * jnp.nan_to_num(fill)))
    found.append(learn(params, first, missing, key))
  assert found[0][0][1].scores["views@0"].valid.tolist() == [[True, False, False, True]]
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found[0]))
  jax.tree.map(np.testing.assert_array_equal, *found)
  nothing = window | {"audio_valid": jnp.zeros_like(heard)}
  (loss, aux), _ = learn(params, first, nothing, key)
  assert loss == 0
  jax.tree.map(np.testing.assert_array_equal, aux.next_state, first)


def test_pixels_of_any_type_are_in_the_unit_range(tmp_path):
  made, (window,) = windows_of(experiment(tmp_path, 1), 1)
  floats = window | {"pixels": window["pixels"].astype(np.float32) / 255}
  one, two = (made.views(w)["narrow_video"] for w in (window, floats))
  np.testing.assert_allclose(one, two, atol=1e-6)


def test_views_are_parts_of_the_window(tmp_path):
  config = experiment(tmp_path, 1, model=dataclasses.replace(nano(), broad_video=True))
  config.objective = objective.Config(window=6, narrow_frames=2, narrow_step=2, broad_step=3)
  found, (window,) = windows_of(config, 1)
  plain = found.views(window)
  pixels = np.moveaxis(window["pixels"], 0, 1).astype(np.float32) / 255
  np.testing.assert_allclose(plain["narrow_video"], pixels[:, [0, 2]], atol=1e-5)
  np.testing.assert_allclose(plain["broad_video"], pixels[:, [0, 3]], atol=1e-5)
  assert plain["broad_audio"].shape == (4, 12, 16)  # 6 ticks of 800 samples, every 400
  one, same, other = (found.views(window, jax.random.key(k)) for k in (0, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, one, same)
  assert not np.array_equal(one["narrow_video"], other["narrow_video"])
  np.testing.assert_array_equal(one["broad_audio"], plain["broad_audio"])


@pytest.mark.parametrize(
  "fields, text",
  [
    ({"narrow_start": "late"}, "narrow_start='late' is not one of"),
    ({"window": 6, "narrow_frames": 4, "narrow_step": 2}, "do not fit into window=6"),
    ({"window": 0}, "window=0 ticks"),
  ],
)
def test_views_that_do_not_fit_are_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    objective.Config(**fields).validate()


def test_sizes_that_do_not_fit_are_refused():
  wide = tsm_resnet.Config().widened(2)
  with pytest.raises(ValueError, match="width 4096 and audio features 2048, but one projector"):
    brave.build(brave.Config(video=wide))
  with pytest.raises(ValueError, match="the broad view is empty"):
    brave.build(brave.Config(broad_video=False, broad_audio=False))
  with pytest.raises(ValueError, match="do not run tick by tick. Use models.brave.build"):
    FAMILY.build(nano()).step(None)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_without_stop_gradient_projections_collapse_and_the_alarm_rings(stop_gradient):
  """Without the projector's last norm, which would turn a total collapse into a partial one."""
  config = dataclasses.replace(nano(), norm_last=False)
  model, rng = brave.build(config), np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  views = {"narrow_video": draw(8, 2, 8, 8, 3), "broad_audio": draw(8, 16, 8)}
  params, state = model.init(jax.random.key(0), views)
  loss = lambda p, s: model.loss(p, s, views, stop_gradient=stop_gradient)  # noqa: E731

  def step(carry, _):
    params, state = carry
    (_, (parts, state)), gradients = jax.value_and_grad(loss, has_aux=True)(params, state)
    params = jax.tree.map(lambda p, g: p - 0.3 * g, params, gradients)
    return (params, state), collapse(parts.narrow.z)

  _, found = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=150))((params, state))
  last = jax.tree.map(lambda x: x[-1], found)
  assert bool(alarm(last)) != stop_gradient, last


def test_classes_of_pulses_are_heard_and_slowly_seen():
  config = pulses.Config(num_classes=3, noise=0.0, ticks_per_recording=40)
  for recording in range(6):
    one = pulses.Pulse(config, 0, recording)
    ticks = [one.read() for _ in range(40)]
    label = int(ticks[0]["label"])
    sound = np.concatenate([tick["audio"] for tick in ticks])
    tone = np.abs(np.fft.rfft(sound)).argmax() * 8000 / len(sound)
    assert tone == pytest.approx(300 * 8 ** (label / 2), rel=0.02)
    light = np.array([tick["pixels"].max() for tick in ticks], float)
    turns = np.sum(np.diff(np.sign(light - light.mean())) != 0)
    assert abs(turns - 2 * 40 / (8 * 4 ** (label / 2))) <= 2
  with pytest.raises(ValueError, match="shortest=1.0 and longest"):
    pulses.Config(shortest=1.0)
