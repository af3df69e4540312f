"""Weights that come with the package: small, loaded by name, with a card that says whence they are."""

import itertools

import jax
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream import streams, zoo
from perceiver_stream.models import point_readout
from perceiver_stream.streams import synthetic
from perceiver_stream.training import inference, pretrained
from perceiver_stream.training.objectives import frozen
from perceiver_stream.zoo import loading, shipped, translation

NAMES = shipped.names()


def test_there_are_some_and_they_are_named_like_models():
  assert NAMES and set(NAMES) <= set(zoo.names())


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_finite_and_watch_pictures(name):
  path = shipped.path_of(name)
  assert path.stat().st_size <= 10e6
  model, params = perceiver_stream.load(name)
  assert all(np.all(np.isfinite(x)) for x in translation.flatten(params).values())
  assert list(model.modalities) == ["pixels"]
  assert "seed" in loading.read_card(name)["weights"]
  assert inference.load(name).about == f"{name}, as it comes with the package"


@pytest.mark.parametrize("name", NAMES)
def test_they_come_with_a_tracker_of_points(name):
  watched, params = pretrained.load_tracker(name, num_slots=3)
  assert watched.num_slots == 3 and watched.tracker.config.follows == "points"
  blank = {"pixels": np.zeros((1, *watched.model.modalities["pixels"].spec.shape), np.uint8)}
  wanted = jax.eval_shape(watched.init, jax.random.key(0), blank)
  assert jax.tree.map(lambda x: x.shape, wanted) == jax.tree.map(lambda x: x.shape, params)


def test_how_places_moved_is_in_the_latents_of_tiny_motion():
  watched, _ = pretrained.load_tracker("stream_perceiver/tiny_motion")
  seen = watched.tracker.config
  assert seen.use_flow and not seen.use_frames
  model, params = watched.model, watched.params
  names = ("pixels", "flow_backward")
  world = synthetic.Config(level="hard", audio_rate_hz=0, modalities=names, seed=10**6)
  [row] = streams.open_rows(world)
  ticks = list(itertools.islice(row, 6))
  frames = np.stack([tick["pixels"] for tick in ticks])[:, None]
  states, _ = model.observe(params, model.initial_state(params, 1), {"pixels": frames})
  told = frozen.flow_of(model, params, states)[-1, 0]
  truth = ticks[-1]["flow_backward"]
  miss, still = (np.linalg.norm(x, axis=-1).mean() for x in (told - truth, truth))
  assert still > 0.5 and miss < 0.6 * still
  blank = states._replace(memory=jax.tree.map(np.zeros_like, states.memory))
  np.testing.assert_array_equal(frozen.flow_of(model, params, blank)[-1, 0], told)


def test_a_name_without_weights_lists_those_that_have_some():
  with pytest.raises(FileNotFoundError, match=f"by name there are .*{NAMES[0]}"):
    zoo.load("stream_perceiver/huge")


def test_a_readout_travels_in_the_file_of_its_model(tmp_path):
  model = zoo.build("stream_perceiver/nano")
  params = model.init(jax.random.key(0), inference.blank_tick(model))
  config, path = point_readout.Config(dim=8, num_heads=2), tmp_path / "a.safetensors"
  readout = loading.Readout(config, {"tracker": {"w": np.arange(3, dtype=np.float32)}})
  zoo.save(path, model, params, readouts={"points": readout})
  back = loading.load_readout(path, "points")
  assert back.config == config
  np.testing.assert_array_equal(back.params["tracker"]["w"], [0, 1, 2])
  loaded, same = zoo.load(path)
  assert loaded.config == model.config
  jax.tree.map(np.testing.assert_array_equal, params, same)
  with pytest.raises(ValueError, match=r"holds no read-out 'boxes', but \['points'\]"):
    loading.load_readout(path, "boxes")
