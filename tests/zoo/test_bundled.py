"""Bundled weights: small, named as what `build` makes, with a card that says how they were made."""

import itertools

import jax
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream import streams, zoo
from perceiver_stream.inference import latent_tracking, model_loading, pretrained
from perceiver_stream.models import mapping as translation
from perceiver_stream.models import point_readout
from perceiver_stream.streams import synthetic
from perceiver_stream.training.objectives import readout_base
from perceiver_stream.zoo import bundled, loading

NAMES = bundled.names()


def shapes(params):
  return {name: tuple(x.shape) for name, x in translation.flatten(params).items()}


def test_there_are_some():
  assert set(NAMES) == {
    "moog/tiny_world",
    "stream_perceiver/tiny_motion",
    "stream_perceiver/tiny_positions",
    "stream_perceiver/tiny_world",
  }


@pytest.mark.parametrize("name", NAMES)
def test_build_makes_the_model_that_is_loaded(name):
  model, params = perceiver_stream.load(name)
  built = perceiver_stream.build(name)
  assert built.config == model.config == perceiver_stream.config(name)
  assert loading.shapes(built) == shapes(params)


@pytest.mark.parametrize("old, name", bundled.RENAMED.items())
def test_an_old_name_still_loads_and_names_the_new_one(old, name):
  for load in (perceiver_stream.load, zoo.load, pretrained.load_tracker):
    with pytest.warns(bundled.RenamedWarning, match=f"'{old}' are now called '{name}'") as caught:
      model, params = load(old)
    assert len(caught) == 1
  want = zoo.load(name)[1]
  jax.tree.map(np.testing.assert_array_equal, perceiver_stream.load(name)[1], want)
  assert getattr(model, "model", model).config == perceiver_stream.config(name)


@pytest.mark.parametrize("name", NAMES)
def test_changes_are_applied_or_refused(name):
  model, params = perceiver_stream.load(name, displacements=(1, 2))
  assert model.displacements == (1, 2)
  assert shapes(params) == loading.shapes(model)
  with pytest.raises(
    ValueError, match=r"\['widht'\] are no fields of the config; it has .*'remat'"
  ):
    perceiver_stream.load(name, widht=3)
  config = perceiver_stream.config(name)
  wrong = {"latent_dim": 32} if hasattr(config, "latent_dim") else {"token_dim": 64}
  with pytest.raises(ValueError, match="parameters do not fit the model"):
    perceiver_stream.load(name, **wrong)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_finite_and_watch_pictures(name):
  path = bundled.path_of(name)
  assert path.stat().st_size <= 10e6
  model, params = perceiver_stream.load(name)
  assert all(np.all(np.isfinite(x)) for x in translation.flatten(params).values())
  assert list(model.modalities) == ["pixels"]
  assert "seed" in loading.read_card(name)["weights"]
  assert model_loading.load(name).about == f"{name}, as it comes with the package"


@pytest.mark.parametrize("name", NAMES)
def test_they_come_with_a_tracker_of_points(name):
  if latent_tracking.trained_model(name):
    assert loading.readout_names(name) == []  # positions are tracks
    return
  watched, params = pretrained.load_tracker(name, num_slots=3)
  assert watched.num_slots == 3 and watched.readout.config.follows == "points"
  blank = {"pixels": np.zeros((1, *watched.model.modalities["pixels"].spec.shape), np.uint8)}
  wanted = jax.eval_shape(watched.init_params, jax.random.key(0), blank)
  assert jax.tree.map(lambda x: x.shape, wanted) == jax.tree.map(lambda x: x.shape, params)


def test_how_places_moved_is_in_the_latents_of_tiny_motion():
  watched, _ = pretrained.load_tracker("stream_perceiver/tiny_motion")
  seen = watched.readout.config
  assert seen.use_flow and not seen.use_frames
  model, params = watched.model, watched.params
  names = ("pixels", "flow_backward")
  world = synthetic.Config(level="hard", audio_rate_hz=0, modalities=names, seed=10**6)
  [row] = streams.open_rows(world)
  ticks = list(itertools.islice(row, 6))
  frames = np.stack([tick["pixels"] for tick in ticks])[:, None]
  states, _ = model.observe(params, model.initial_state(params, 1), {"pixels": frames})
  told = readout_base.flow_of(model, params, states)[-1, 0]
  truth = ticks[-1]["flow_backward"]
  miss, still = (np.linalg.norm(x, axis=-1).mean() for x in (told - truth, truth))
  assert still > 0.5 and miss < 0.6 * still
  blank = states._replace(memory=jax.tree.map(np.zeros_like, states.memory))
  np.testing.assert_array_equal(readout_base.flow_of(model, params, blank)[-1, 0], told)


def test_a_name_without_weights_lists_those_that_have_some():
  with pytest.raises(FileNotFoundError, match=f"bundled are .*{NAMES[0]}"):
    zoo.load("stream_perceiver/huge")
  with pytest.raises(FileNotFoundError, match="no bundled weights of that name"):
    zoo.load("stream_perceiver/nano")  # a model of the zoo, but nothing was learnt


def test_a_readout_travels_in_the_file_of_its_model(tmp_path):
  model = zoo.build("stream_perceiver/nano")
  params = model.init(jax.random.key(0), model_loading.blank_tick(model))
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
