"""Reading out of a model that learns too, and of one that does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import shaken

from perceiver_stream.inference.pretrained import export, load_tracker
from perceiver_stream.training import load_config, make_parts, train


def config_of(variant, finetune, folder="unused"):
  config = load_config(f"configs/tracking.py:nano{variant}")
  config.objective.finetune, config.run_dir = finetune, str(folder)
  config.max_windows, config.checkpoints.every = 4, 4  # heads start at 0, and so does the rate
  config.logging.use_tensorboard = config.logging.use_report = False
  return config


@pytest.mark.parametrize("variant", ["", "_dense"])
@pytest.mark.parametrize("finetune", [False, True])
def test_the_model_is_among_what_learns_only_if_it_learns_too(variant, finetune):
  parts = make_parts(config_of(variant, finetune))
  learner = parts.objective.learner
  params = learner.init_params(jax.random.key(0), parts.observation)
  own, readout = learner.split(params)
  jax.tree.map(np.testing.assert_array_equal, own, learner.params)
  assert readout and not set(own) & set(readout)
  assert set(params) == (set(own) | set(readout) if finetune else set(readout))


@pytest.mark.parametrize("variant", ["", "_dense"])
def test_gradients_reach_a_model_that_learns_too(variant):
  parts = make_parts(config_of(variant, True))
  learner = parts.objective.learner
  params = shaken(learner.init_params(jax.random.key(0), parts.observation))
  window = jax.tree.map(jnp.asarray, dict(next(iter(parts.windows))))
  state = learner.initial_state(params, parts.config.num_rows)
  loss = jax.jit(jax.grad(lambda p: parts.objective.loss(p, state, window)[0]))
  reached = {name for name, x in loss(params).items() if any(map(np.any, x.values()))}
  own, readout = learner.split(params)
  assert reached & set(readout)
  assert any("core" in name for name in reached & set(own))


@pytest.mark.parametrize("variant, name", [("", "point_tracking"), ("_dense", "dense_reading")])
def test_weights_of_a_model_are_no_start_for_a_readout(variant, name):
  config = config_of(variant, False)
  config.weights = "stream_perceiver/tiny_world"
  with pytest.raises(
    ValueError, match=f"tiny_world' are of a model, and {name} trains .*objective.w"
  ):
    make_parts(config)


def test_what_is_exported_is_the_model_that_has_learnt(tmp_path):
  config = config_of("", True, tmp_path / "run")
  parts = make_parts(config)
  train(config, parts)
  export(config.run_dir, tmp_path / "tracker.safetensors")
  watched, params = load_tracker(tmp_path / "tracker.safetensors", num_slots=8)
  fresh = parts.objective.learner.params
  pairs = zip(jax.tree.leaves(fresh), jax.tree.leaves(watched.params), strict=True)
  assert any(np.any(a != b) for a, b in pairs)
  assert not set(params) & set(fresh)
