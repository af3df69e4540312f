"""Dense labels are learnt from frozen states: what counts, what is learnt, and that the model stays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceiver_stream
from perceiver_stream import modalities
from perceiver_stream.inference.dense import as_reading
from perceiver_stream.modalities import depth, flow, segmentation
from perceiver_stream.models import dense_readout
from perceiver_stream.training.objectives.dense_reading import Config, DenseReading
from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer

SIDE = 16


@pytest.fixture(scope="module")
def objective():
  model = perceiver_stream.build("stream_perceiver/nano")
  pixels = {"pixels": model.modalities["pixels"].config}
  model = perceiver_stream.build(dataclasses.replace(model.config, modalities=pixels))
  sizes = {"height": SIDE, "width": SIDE, "patch": 4, "use_input": False}
  modalities = {
    "depth": depth.Config(**sizes),
    "segmentation": segmentation.Config(**sizes, num_classes=3),
  }
  readout = dense_readout.Config(modalities=modalities, dim=16, num_heads=2)
  return DenseReading(model, Config(window=4, readout=readout))


def window(seed=0, ticks=4):
  """Returns bright squares that are near and of class 1, on dark ground that is far."""
  rng = np.random.default_rng(seed)
  pixels = np.zeros((ticks, 1, SIDE, SIDE, 3), np.uint8)
  for tick in range(ticks):
    y, x = rng.integers(0, 3, 2) * 4
    pixels[tick, 0, y : y + 8, x : x + 8] = 255
  bright = pixels[..., 0] > 0
  near = np.where(bright, 2.0, 8.0).astype(np.float32)
  return {"pixels": pixels, "depth": near, "segmentation": bright.astype(np.int32)}


def test_it_learns_more_than_one_who_has_seen_nothing_knows(objective):
  learner, first = objective.learner, window()
  params = learner.init_params(jax.random.PRNGKey(0), {"pixels": first["pixels"][0]})
  frozen = jax.tree.map(np.array, learner.params)
  optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=1))
  memory = optimizer.init(params)

  @jax.jit
  def learn(params, memory, window):
    state = learner.initial_state(params)
    (_, aux), grads = jax.value_and_grad(objective.loss, has_aux=True)(params, state, window)
    updates, memory = optimizer.update(grads, memory, params)
    return optax.apply_updates(params, updates), memory, aux.scores

  for seed in range(60):
    params, memory, scores = learn(params, memory, window(seed))
  for name in ("depth@0", "segmentation@0"):
    assert float(jnp.mean(scores[name].model)) < 0.7 * float(
      jnp.mean(scores[name].baselines["prior"])
    )
  jax.tree.map(np.testing.assert_array_equal, frozen, jax.tree.map(np.array, learner.params))


def test_what_is_not_valid_counts_for_nothing(objective):
  learner, good = objective.learner, window()
  params = learner.init_params(jax.random.PRNGKey(0), {"pixels": good["pixels"][0]})
  flags = np.ones((4, 1), bool)
  flags[2] = False
  bad = good | {"depth": good["depth"].copy(), "depth_valid": flags}
  bad["depth"][2] = np.nan
  other = bad | {"depth": good["depth"]}
  both = [jax.tree.map(jnp.asarray, w) for w in (bad, other)]
  losses = [objective.loss(params, learner.initial_state(params), w) for w in both]
  assert np.isfinite(losses[0][0])
  np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-6)
  assert losses[0][1].scores["depth@0"].valid[:, 0].tolist() == [True, True, False, True]


def test_a_video_is_read_in_pieces_and_in_the_units_of_the_stream(objective):
  learner, frames = objective.learner, window(1, ticks=6)["pixels"]
  params = learner.init_params(jax.random.PRNGKey(0), {"pixels": frames[0]})
  params = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(1), x.shape), params)
  found = as_reading(learner, params, chunk=4)(frames[:, 0])
  first = np.arange(6)[:, None] == 0
  state = learner.initial_state(params)
  labels = jax.tree.map(jnp.asarray, window(1, ticks=6) | {"is_first": first})
  _, aux = objective.loss(params, state, labels)
  assert found["segmentation"].dtype == np.int32 and found["segmentation"].max() < 3
  metres = np.exp(aux.predictions["depth@0"][:, 0])
  np.testing.assert_allclose(found["depth"], metres, rtol=1e-3)
  wrong = (found["segmentation"] != labels["segmentation"][:, 0]).mean(axis=(1, 2))
  np.testing.assert_allclose(wrong, aux.scores["segmentation@0"].model[:, 0], atol=0.02)


@pytest.mark.parametrize("kind", [depth, flow, segmentation])
def test_natural_units_are_those_of_the_stream(kind):
  modality = modalities.build("labels", kind.Config(height=8, width=8))
  raw = modality.random_observation(np.random.default_rng(0), (2,))
  prediction = np.asarray(modality.copy(modality.preprocess(jnp.asarray(raw))))
  np.testing.assert_allclose(modality.postprocess(prediction), raw, rtol=1e-4)


def test_configs_that_contradict_themselves():
  with pytest.raises(ValueError, match="modalities is empty; name what is to be read out"):
    Config().validate()
