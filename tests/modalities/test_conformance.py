"""What every modality of the list must do; a new one is picked up from `MODALITIES`."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.modalities import MODALITIES, Modality, ModalityConfig, Queries, build
from perceiver_stream.nn import Precision
from perceiver_stream.types import ModalitySpec

DIM, ROWS = 8, 3


def small(module) -> Modality:
  config_class, _ = module.MODALITY
  config = config_class()
  if hasattr(config, "height"):
    config = dataclasses.replace(config, height=8, width=12, patch=4)
  return build("it", config)


@pytest.fixture(params=MODALITIES, ids=lambda m: m.__name__.rsplit(".", 1)[-1])
def modality(request):
  return small(request.param)


def seen(modality: Modality, ticks: int = 3, seed: int = 0):
  """Returns a memory after some random ticks, and the observations."""
  rng = np.random.default_rng(seed)
  raw = jnp.asarray(modality.random_observation(rng, (ticks, ROWS)))
  memory = modality.initial_memory(ROWS)
  for tick in raw:
    yes, no = jnp.ones(ROWS, bool), jnp.zeros(ROWS, bool)
    memory = modality.remember(memory, modality.preprocess(tick), yes, no)
  return memory, raw


def grid(modality: Modality, displacement: float = 4.0) -> Queries:
  positions = jnp.asarray(modality.query_grid(), jnp.float32)
  return Queries(positions, jnp.full(len(positions), displacement, jnp.float32))


def networks(modality: Modality, dtype: str = "float32"):
  """Returns tokens and predictions as transformed functions of a memory."""
  precision = Precision(compute=dtype)

  def tokens(memory):
    return modality.tokens(memory, modality.derive(memory), DIM, precision)

  def predict(memory, decoded):
    derived = modality.derive(memory)
    query_features = modality.query_features(
      memory, derived, grid(modality).positions, DIM, precision
    )
    return modality.head(decoded + query_features, memory, derived, grid(modality))

  return [hk.without_apply_rng(hk.transform(f)) for f in (tokens, predict)]


def decoded_noise(modality: Modality, seed: int = 1) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), (ROWS, len(modality.query_grid()), DIM))


def shaken(params, seed: int = 2):
  """Returns parameters with noise, so that nothing is hidden behind zeros."""
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return treedef.unflatten(
    [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
  )


def test_fake_is_what_the_spec_says(modality):
  random_observation = modality.random_observation(np.random.default_rng(0), (2, ROWS))
  assert random_observation.shape == (2, ROWS, *modality.spec.shape)
  assert random_observation.dtype == np.dtype(modality.spec.dtype)


def test_config_can_be_fitted_to_a_stream(modality):
  spec = dataclasses.replace(modality.spec, rate_hz=modality.spec.rate_hz * 2)
  fitted = modality.config.fitted(spec)
  assert fitted.spec.shape == modality.spec.shape
  assert fitted.spec.rate_hz == spec.rate_hz


def test_copying_an_observation_predicts_it_perfectly(modality):
  _, raw = seen(modality)
  value = modality.preprocess(raw[0])
  error = modality.metric(modality.copy(value), modality.target(value))
  np.testing.assert_allclose(error, np.zeros(ROWS), atol=1e-5)
  other = modality.target(modality.preprocess(raw[1]))
  assert np.all(np.asarray(modality.metric(modality.copy(value), other)) > 0)


def test_loss_is_smaller_for_the_better_prediction(modality):
  _, raw = seen(modality)
  right, wrong = (modality.preprocess(raw[i]) for i in (0, 1))
  target = modality.target(right)
  assert np.all(
    modality.loss(modality.copy(right), target) < modality.loss(modality.copy(wrong), target)
  )


def test_assembling_the_cells_gives_the_whole_back(modality):
  memory, _ = seen(modality)
  whole = modality.copy(memory.last)
  cells = modality.split(whole)
  assert cells.shape[:2] == (ROWS, len(modality.query_grid()))
  np.testing.assert_array_equal(modality.assemble(cells), whole)


def test_untrained_prediction_is_the_last_observation(modality):
  memory, _ = seen(modality)
  _, predict = networks(modality)
  params = predict.init(jax.random.key(0), memory, decoded_noise(modality))
  cells = predict.apply(params, memory, decoded_noise(modality))[modality.name]
  np.testing.assert_allclose(modality.assemble(cells), modality.copy(memory.last), atol=1e-6)


def test_tokens_keep_rows_apart_and_jit_changes_nothing(modality):
  memory, _ = seen(modality)
  tokens, _ = networks(modality)
  params = shaken(tokens.init(jax.random.key(0), memory))
  whole = tokens.apply(params, memory)
  assert whole.shape[0] == ROWS and whole.shape[2] == DIM
  one = tokens.apply(params, jax.tree.map(lambda x: x[1:2], memory))
  np.testing.assert_allclose(whole[1:2], one, atol=1e-5)
  np.testing.assert_allclose(whole, jax.jit(tokens.apply)(params, memory), atol=2e-5)


def test_gradients_are_finite_and_reach_every_parameter(modality):
  memory, raw = seen(modality)
  target = modality.target(modality.preprocess(raw[0]))
  _, predict = networks(modality)
  params = shaken(predict.init(jax.random.key(0), memory, decoded_noise(modality)))

  def loss(params):
    cells = predict.apply(params, memory, decoded_noise(modality))[modality.name]
    return jnp.mean(modality.loss(modality.assemble(cells), target))

  for path, gradient in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params)):
    assert np.all(np.isfinite(gradient)), jax.tree_util.keystr(path)
    assert np.any(np.asarray(gradient) != 0), f"no gradient: {jax.tree_util.keystr(path)}"


def test_tokens_in_bfloat16_are_close(modality):
  memory, _ = seen(modality)
  exact, _ = networks(modality)
  params = exact.init(jax.random.key(0), memory)
  near, _ = networks(modality, "bfloat16")
  rough = near.apply(params, memory)
  assert rough.dtype == jnp.bfloat16
  scale = float(jnp.max(jnp.abs(exact.apply(params, memory))))
  np.testing.assert_allclose(
    rough.astype(jnp.float32), exact.apply(params, memory), atol=0.05 * scale
  )


def test_what_is_not_valid_never_enters_the_memory(modality):
  memory, raw = seen(modality)
  rubbish = modality.preprocess(raw[0])
  if jnp.issubdtype(rubbish.dtype, jnp.floating):
    rubbish = rubbish * jnp.nan
  no = jnp.zeros(ROWS, bool)
  after = modality.remember(memory, rubbish, no, no)
  for before, now in zip(jax.tree.leaves(memory), jax.tree.leaves(after), strict=True):
    np.testing.assert_array_equal(before, now)


def test_a_reset_row_forgets_and_the_others_do_not(modality):
  memory, raw = seen(modality)
  value = modality.preprocess(raw[0])
  yes = jnp.ones(ROWS, bool)
  first = jnp.asarray([False, True, False])
  after = modality.remember(memory, value, yes, first)
  fresh = modality.remember(modality.initial_memory(ROWS), value, yes, jnp.zeros(ROWS, bool))
  kept = modality.remember(memory, value, yes, jnp.zeros(ROWS, bool))
  for got, new, old in zip(*map(jax.tree.leaves, (after, fresh, kept)), strict=True):
    np.testing.assert_array_equal(got[1], new[1])
    np.testing.assert_array_equal(got[0], old[0])


def test_picture_is_rgb_bytes(modality):
  memory, raw = seen(modality)
  for value in (modality.copy(memory.last), modality.target(modality.preprocess(raw[0]))):
    picture = modality.picture(np.asarray(value[0]))
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_slow_ticks_below_one_is_refused(modality):
  config = dataclasses.replace(modality.config)
  config.slow_ticks = 0.5
  with pytest.raises(ValueError, match="slow_ticks=0.5 is below one tick"):
    config.validate()


def test_unknown_config_is_refused():
  class Strange(ModalityConfig):
    pass

  with pytest.raises(TypeError, match="modality 'smell': no modality has a config of type"):
    build("smell", Strange())


def test_spec_is_a_modality_spec(modality):
  assert isinstance(modality.spec, ModalitySpec)
