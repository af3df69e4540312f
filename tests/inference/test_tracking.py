"""Points followed through frames of any size, piece by piece; queries come and go at any tick."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from trees import shaken

import perceiver_stream
from perceiver_stream.inference import tracking
from perceiver_stream.inference.model_loading import UntrainedWarning
from perceiver_stream.inference.tracking import make_tracker, track_points
from perceiver_stream.inference.tracking_methods import as_method
from perceiver_stream.models import point_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.training.objectives.point_tracking import TrackerLearner
from perceiver_stream.training.objectives.readout_base import observe_features
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils.opencv import resized
from perceiver_stream.zoo import bundled

READOUT = point_readout.Config(dim=16, num_heads=2)
SLOTS, CHUNK = 3, 4
RNG = np.random.default_rng(0)
ASKED = np.asarray([[0, 4.0, 12.5], [3, 8, 3.0], [6, 1.0, 9.0], [0, 9.0, 9.0], [2, 2.0, 2.0]])


class Memory(NamedTuple):
  last: Any
  previous: Any


class State(NamedTuple):
  memory: dict[str, Memory]
  latents: Any


def fake_model():
  """Returns a model of 16 x 16 pixels whose latents are running means of four quarters."""
  config = perceiver_stream.config("stream_perceiver/nano")
  pixels = perceiver_stream.modalities.build("pixels", config.modalities["pixels"])
  nothing = jnp.zeros((1, 16, 16, 3))

  def observe(params, state, observations):
    def tick(before, now):
      first = now.get(IS_FIRST, jnp.ones(1, bool))
      seen = now["pixels"].astype(jnp.float32) / 255
      last = jnp.where(first[:, None, None, None], seen, before.memory["pixels"].last)
      quarters = seen.reshape(1, 2, 8, 2, 8, 3).mean((2, 4)).reshape(1, 4, 3)
      return (
        after := State({"pixels": Memory(seen, last)}, (before.latents + quarters) / 2)
      ), after

    return jax.lax.scan(tick, state, observations)[::-1]

  functions = {
    "initial_state": lambda params, *_: State(
      {"pixels": Memory(nothing, nothing)}, jnp.zeros((1, 4, 3))
    ),
    "observe": jax.jit(observe),
    "latents": lambda params, state: state.latents,
  }
  fields = dict.fromkeys(Model._fields, lambda *_: None) | functions
  return Model(
    **{**fields, "modalities": {"pixels": pixels}, "displacements": (1,), "config": config}
  )


@pytest.fixture(scope="module")
def made():
  """A model with a memory, and a tracker with shaken parameters."""
  watched = TrackerLearner(fake_model(), {}, point_readout.build(READOUT), num_slots=SLOTS)
  frame = np.zeros((1, 16, 16, 3), np.uint8)
  return watched, shaken(watched.init_params(jax.random.PRNGKey(0), {"pixels": frame}), by=0.2)


@pytest.fixture(scope="module")
def frames():
  return RNG.integers(0, 255, (10, 16, 16, 3)).astype(np.uint8)


def said(made, frames, asked=ASKED):
  watcher = track_points(*made, asked, CHUNK)
  found = [watcher(frames[at : at + CHUNK]) for at in range(0, len(frames), CHUNK)]
  return [np.concatenate(x, axis=1) for x in zip(*found, strict=True)]


def test_pieces_say_what_the_method_for_clips_says(made, frames):
  tracks, visible, certainty = said(made, frames)
  expected, hidden = as_method(*made, chunk=CHUNK)(frames, ASKED)
  since = np.arange(10) >= ASKED[:, :1]
  np.testing.assert_allclose(tracks[since], expected[since], atol=1e-3)
  np.testing.assert_array_equal(visible, ~hidden & since)
  np.testing.assert_array_equal(np.isnan(tracks[..., 0]), ~since)
  np.testing.assert_array_equal(np.isnan(certainty), ~since)
  assert ((certainty[since] > 0) & (certainty[since] < 1)).all()


def test_a_larger_video_has_the_same_tracks_larger(made, frames):
  large = frames.repeat(6, axis=1).repeat(4, axis=2)  # means of areas are the small frames again
  tracks, visible, _ = said(made, large, ASKED * [1, 6, 4])
  small, same, _ = said(made, frames)
  np.testing.assert_allclose(tracks, small * [4, 6], atol=1e-2)
  np.testing.assert_array_equal(visible, same)


def test_pieces_of_another_length_are_the_last(made, frames):
  watcher = track_points(*made, ASKED, CHUNK)
  with pytest.raises(ValueError, match="5 frames after 0; give 4 at a time, fewer only at the end"):
    watcher(frames[:5])
  watcher(frames[:3])
  with pytest.raises(ValueError, match="4 frames after 3"):
    watcher(frames[:4])


def test_pictures_are_squashed_about_their_raster():
  picture = np.zeros((8, 12, 3), np.uint8)
  picture[4:, 6:9] = 200
  np.testing.assert_array_equal(np.argwhere(resized(picture, (2, 4))[..., 0]), [[1, 2]])
  assert resized(picture, (8, 12)) is picture
  assert resized(picture, (16, 24)).shape == (16, 24, 3)


def test_queries_come_and_go_at_any_tick_without_a_second_compilation(made, frames):
  """A session in which slots are given out and taken back at random."""
  watched, params = made
  model, weights, tracker = watched.model, watched.params, watched.readout
  watch, state = model.initial_state(weights, 1), tracker.initial_state(1, SLOTS)
  rng, history, sizes = np.random.default_rng(3), [], []
  for tick, frame in enumerate(frames):
    flags = rng.uniform(size=(2, 1, SLOTS)) < 0.4
    place = rng.uniform(size=(1, SLOTS, 2)).astype(np.float32)
    start = np.asarray([[tick == 0]])
    sight, watch = observe_features(
      model, weights, watch, {"pixels": frame[None, None], IS_FIRST: start}
    )
    orders = TrackCommands(*map(jnp.asarray, (flags[0], place, flags[1])))
    tracks, state = tracker.step(params, state, jax.tree.map(lambda x: x[0], sight), orders)
    history.append((orders, jax.device_get(tracks)))
    sizes.append((tracker.step._cache_size(), model.observe._cache_size()))
  assert set(sizes) == {sizes[0]}
  active, counts = np.zeros(SLOTS, bool), set()
  for orders, tracks in history:
    start, stop = np.asarray(orders.start[0]), np.asarray(orders.stop[0])
    active = (active | start) & ~stop
    np.testing.assert_array_equal(np.isfinite(tracks.position[0, :, 0]), active)
    counts.add(int(active.sum()))
    begun = start & ~stop
    np.testing.assert_allclose(tracks.position[0, begun], orders.position[0, begun], atol=1e-6)
  assert len(counts) > 2, "the session has hardly any change"


def test_models_are_found_by_name_or_file(made, tmp_path, monkeypatch):
  follow, about = make_tracker("lk", 3)
  assert about == "lk_gray, without learning" and callable(follow(ASKED))
  monkeypatch.setattr(tracking, "untrained", lambda name, slots: (name, slots))
  with pytest.warns(UntrainedWarning, match="stream_perceiver/nano has random weights"):
    assert make_tracker("stream_perceiver/nano", 99)[1] == "stream_perceiver/nano, untrained"
  file = tmp_path / "mine.safetensors"
  save_file({"x": np.zeros(1, np.float32)}, file)
  asked = []
  monkeypatch.setattr(tracking, "load_tracker", lambda *x: asked.append(x) or made)
  follow, about = make_tracker(str(file), 2)
  assert about == str(file) and asked == [(str(file), 2)] and callable(follow(ASKED))
  with pytest.warns(bundled.RenamedWarning, match="now called 'moog/tiny_world'"):
    assert make_tracker("moog/tiny", 2)[1] == "moog/tiny_world"


@pytest.mark.parametrize(
  ("name", "error", "message"),
  [
    ("lk_grey", FileNotFoundError, "one of static, .*Did you mean 'lk_gray'"),
    ("perceiver_flow/nano", ValueError, "perceiver_flow/nano cannot track points"),
  ],
)
def test_what_cannot_follow_points_is_refused(name, error, message):
  with pytest.raises(error, match=message):
    make_tracker(name, 1)
