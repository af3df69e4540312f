"""The published families keep the contract of every model: `step`, `unroll`, `decode`, `predict`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.training.objectives import FuturePrediction, ObjectiveConfig

ROWS, TICKS = 2, 4
NAMES = [
  "moog/nano",
  "perceiver_autoencoder/nano",
  "perceiver_classifier/nano",
  "perceiver_flow/nano",
  "rvm/nano",
  "video_autoencoder/nano",
]
RECURRENT = ["moog/nano", "rvm/nano", "video_autoencoder/nano"]


@functools.cache
def built(name: str):
  """Returns a model, shaken parameters and observations `[T, B, ...]`, flags included."""
  model = zoo.build(name)
  rng = np.random.default_rng(0)
  inputs = {n: m for n, m in model.modalities.items() if m.config.use_input}
  watched = {n: jnp.asarray(m.fake(rng, (TICKS, ROWS))) for n, m in inputs.items()}
  watched["is_first"] = jnp.zeros((TICKS, ROWS), bool).at[0].set(True)
  watched["pixels_valid"] = jnp.ones((TICKS, ROWS), bool)
  params = model.init(jax.random.key(0), tick(watched, 0))
  shake = lambda x: x + jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype)  # noqa: E731
  return model, jax.tree.map(shake, params), watched


def tick(observations: dict, index: int) -> dict:
  return {name: value[index] for name, value in observations.items()}


def ticks(observations: dict, start: int, stop: int) -> dict:
  return {name: value[start:stop] for name, value in observations.items()}


def close(one, other, atol=1e-4):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol)


def part(outputs, index):
  return jax.tree.map(lambda x: x[index], outputs)


@functools.cache
def unrolled(name: str):
  model, params, watched = built(name)
  state = model.initial_state(params, ROWS)
  return state, *model.unroll(params, state, watched)


@pytest.mark.parametrize("name", NAMES)
def test_unroll_is_steps_is_any_split_and_the_past_does_not_know_the_future(name):
  model, params, watched = built(name)
  start, whole, last = unrolled(name)
  outputs, state = [], start
  for index in range(TICKS):
    output, state = model.step(params, state, tick(watched, index))
    outputs.append(output)
  close(whole, jax.tree.map(lambda *x: jnp.stack(x), *outputs))
  close(last, state)
  head, middle = model.unroll(params, start, ticks(watched, 0, 2))
  close(part(whole, np.s_[:2]), head)  # nothing of ticks 2 and later in it
  tail, end = model.unroll(params, middle, ticks(watched, 2, 4))
  close(part(whole, np.s_[2:]), tail)
  close(last, end)


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_row_starts_afresh_and_the_other_goes_on(name):
  model, params, watched = built(name)
  state, plain, _ = unrolled(name)
  again = watched | {"is_first": watched["is_first"].at[2, 1].set(True)}
  reset, _ = model.unroll(params, state, again)
  fresh, _ = model.unroll(params, state, ticks(again, 2, 4))
  close(part(reset, np.s_[2:, 1]), part(fresh, np.s_[:, 1]))
  close(part(reset, np.s_[:, 0]), part(plain, np.s_[:, 0]))
  if name in RECURRENT:
    assert not np.allclose(reset.latents[2:, 1], plain.latents[2:, 1], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_frame_may_be_rubbish_and_changes_nothing_in_other_rows(name):
  model, params, watched = built(name)
  state, plain, _ = unrolled(name)
  gone = watched | {"pixels_valid": watched["pixels_valid"].at[2, 1].set(False)}
  one, _ = model.unroll(params, state, gone)
  two, _ = model.unroll(params, state, gone | {"pixels": watched["pixels"].at[2, 1].set(0)})
  close(one, two)
  close(part(one, np.s_[:, 0]), part(plain, np.s_[:, 0]))
  assert not np.allclose(one.latents[2:, 1], plain.latents[2:, 1], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_decoding_some_cells_is_predicting_all(name):
  model, params, _ = built(name)
  _, whole, last = unrolled(name)
  displacement = model.displacements[-1]
  for output, modality in model.modalities.items():
    if not modality.config.use_output:
      continue
    full = whole.predictions[output][-1, :, -1]
    if output == "audio":  # a cell is a patch of samples here
      cells, count = full.reshape(ROWS, -1, modality.config.patch), 3
    else:
      cells, count = modality.split(full), np.prod(modality.grid_shape())
    some = jnp.asarray([0, int(count) - 1, int(count) // 2])
    queries = model.queries(output, float(displacement), some)
    close(model.decode(params, last, queries)[output], cells[:, some])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_reach_every_parameter(name):
  model, params, watched = built(name)

  def loss(params):
    output, _ = model.unroll(params, model.initial_state(params, ROWS), watched)
    return sum(jnp.mean(jnp.square(x)) for x in output.predictions.values())

  untouched = []
  for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
    assert np.all(np.isfinite(gradient)), jax.tree_util.keystr(path)
    if not np.any(np.asarray(gradient) != 0):
      untouched.append(jax.tree_util.keystr(path))
  # Masks that no token wears, as published: image and audio are never masked.
  allowed = ("audio_mask", "image_mask", "label_padding", "/attention/key']['b'")
  assert not [name for name in untouched if not any(a in name for a in allowed)]


@pytest.mark.parametrize("name", RECURRENT)
def test_the_shared_objective_and_evaluator_run_on_them(name):
  model, params, _ = built(name)
  objective = FuturePrediction(model, ObjectiveConfig(window=2))
  frames = model.modalities["pixels"].fake(np.random.default_rng(1), (objective.num_ticks, ROWS))
  state = model.initial_state(params, ROWS)
  loss, aux = jax.jit(objective.loss)(params, state, {"pixels": jnp.asarray(frames)})
  assert np.isfinite(loss)
  close(jax.tree.map(jnp.shape, aux.next_state), jax.tree.map(jnp.shape, state))
  assert set(aux.scores) == {f"pixels@{d}" for d in model.displacements}


@pytest.mark.parametrize("name", NAMES)
def test_fitting_to_a_stream(name):
  config, family = zoo.config(name), zoo.FAMILIES[name.split("/")[0]]
  model = built(name)[0]
  specs = {n: m.spec for n, m in model.modalities.items()}
  assert family.fitted(config, specs) == config
  with pytest.raises(ValueError, match=r"the stream has \['depth'\]"):
    family.fitted(config, {"depth": specs["pixels"]})
