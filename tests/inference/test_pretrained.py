"""What a run has learnt, in one file, and back: a model, and a tracker with the model it reads."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.inference.model_loading import load, untrained
from perceiver_stream.inference.pretrained import export, load_tracker
from perceiver_stream.training import load_config, make_parts, train
from perceiver_stream.training.checkpoints import CheckpointError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run that learnt to follow points for two windows."""
  config = load_config("configs/tracking.py:nano")
  config.run_dir = str(tmp_path_factory.mktemp("run") / "tracking")
  config.max_windows, config.checkpoints.every = 2, 1
  config.logging.use_tensorboard = config.logging.use_report = False
  parts = make_parts(config)
  train(config, parts)
  return config, parts


def test_a_tracker_comes_back_with_the_model_that_it_reads(run, tmp_path):
  config, parts = run
  target = tmp_path / "tracker.safetensors"
  assert "after 2 windows" in export(config.run_dir, target, "seed 0, two windows")
  watched, params = load_tracker(target, num_slots=8)
  learner = parts.objective.learner
  jax.tree.map(np.testing.assert_array_equal, learner.params, watched.params)
  first = learner.init_params(jax.random.PRNGKey(0), parts.observation)
  assert jax.tree.structure(first) == jax.tree.structure(params)
  assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (first, params)), strict=True))
  assert zoo.loading.read_card(target)["weights"] == "seed 0, two windows"
  assert zoo.loading.readout_names(target) == ["points"]
  assert load(target).model.config == watched.model.config


def test_a_run_that_read_something_out_is_no_model(run):
  with pytest.raises(ValueError, match="trained a read-out .* perceiver-stream export"):
    load(run[0].run_dir)


def test_what_cannot_be_exported(run, tmp_path):
  with pytest.raises(ValueError, match="must end in .safetensors"):
    export(run[0].run_dir, tmp_path / "a.npz")
  with pytest.raises(ValueError, match="parameters do not fit the model"):
    export(run[0].run_dir, tmp_path / "a.safetensors", name="stream_perceiver/nano_positions")
  shutil.copy(pathlib.Path(run[0].run_dir) / "config.json", tmp_path)
  with pytest.raises(CheckpointError, match="has no checkpoint yet"):
    export(tmp_path, tmp_path / "a.safetensors")


def test_a_file_without_a_tracker_says_so(tmp_path):
  plain = untrained("stream_perceiver/nano")
  zoo.save(tmp_path / "a.safetensors", plain.model, plain.params)
  with pytest.raises(ValueError, match="holds no read-out 'points', but none; train one"):
    load_tracker(tmp_path / "a.safetensors")


def test_a_run_starts_from_the_weights_of_a_file(run, tmp_path):
  target = tmp_path / "model.safetensors"
  export(run[0].run_dir, target)
  config = load_config("configs/pretrain.py:nano")
  config.weights = str(target)
  parts = make_parts(config)
  jax.tree.map(np.testing.assert_array_equal, parts.params, run[1].objective.learner.params)
  config.weights = "stream_perceiver/tiny_world"
  with pytest.raises(ValueError, match="stream_perceiver/tiny_world, for this stream"):
    make_parts(config)
