"""Tracks read from positions of latents: frames of any size, queries at any tick, in pieces."""

import dataclasses

import jax
import numpy as np
import pytest
import scenes

import perceiver_stream
from perceiver_stream import zoo
from perceiver_stream.inference import latent_tracking, tracking
from perceiver_stream.inference.latent_tracking import LatentTracker, num_positioned
from perceiver_stream.inference.tracking_methods import method_of
from perceiver_stream.models import point_readout

TICKS, SIDE, CHUNK = 8, 32, 4
# Frame, y, x: away from the edge to which they move.
ASKED = np.asarray([[0, 12.0, 9.5], [3, 20.0, 12.0], [5, 9.25, 8.0], [0, 16.0, 16.0]])


@pytest.fixture(scope="module")
def made():
  """Returns a model of 32 × 32 pixels with 9 positioned latents, and random parameters."""
  config = perceiver_stream.config("stream_perceiver/nano_positions")
  pixels = dataclasses.replace(config.modalities["pixels"], height=SIDE, width=SIDE)
  core = dataclasses.replace(config.core, num_latents=12)
  model = perceiver_stream.build(
    dataclasses.replace(config, modalities={"pixels": pixels}, core=core, displacements=(1,))
  )
  return model, model.init(jax.random.key(0), {"pixels": np.zeros((1, SIDE, SIDE, 3), np.uint8)})


def truth(asked, speed: int = 1) -> np.ndarray:
  """Returns where the queries are at each tick, (x, y)."""
  since = np.arange(TICKS) - asked[:, :1]
  return np.stack([asked[:, 2:] + speed * since, np.broadcast_to(asked[:, 1:2], since.shape)], -1)


def followed(tracker, frames, chunk: int = CHUNK):
  parts = [tracker(frames[at : at + chunk]) for at in range(0, len(frames), chunk)]
  return [np.concatenate(x, axis=1) for x in zip(*parts, strict=True)]


@pytest.mark.parametrize("from_grid", [False, True])
def test_queries_follow_a_moving_image_from_their_frames(made, from_grid):
  frames = scenes.moving(TICKS, SIDE)
  tracks, visible, sure = followed(
    LatentTracker(*made, ASKED, from_grid=from_grid, chunk=CHUNK), frames
  )
  waits = np.arange(TICKS) < ASKED[:, :1]
  np.testing.assert_array_equal(np.isnan(tracks[..., 0]), waits)
  np.testing.assert_array_equal(np.isnan(sure), waits)
  assert visible[~waits].all() and not visible[waits].any()
  error = np.linalg.norm(tracks - truth(ASKED), axis=-1)[~waits]
  static = np.linalg.norm(ASKED[:, None, :0:-1] - truth(ASKED), axis=-1)[~waits]
  assert error.max() < 0.75 and error.mean() < 0.15 * static.mean()
  starts = tracks[np.arange(4), ASKED[:, 0].astype(int)]
  np.testing.assert_allclose(starts, ASKED[:, :0:-1], atol=1e-4)


def test_frames_of_another_size_give_the_same_tracks_in_their_pixels(made):
  frames = scenes.moving(TICKS, SIDE)
  large = np.kron(frames, np.ones((1, 2, 3, 1), np.uint8))
  scale = np.array([1, 2, 3])
  small = followed(LatentTracker(*made, ASKED, chunk=CHUNK), frames)
  found = followed(LatentTracker(*made, ASKED * scale, chunk=CHUNK), large)
  np.testing.assert_allclose(found[0], small[0] * scale[:0:-1], atol=1e-3)


def test_more_queries_than_latents_are_followed_in_turns(made):
  many = np.repeat(ASKED[:1], 11, axis=0) + np.linspace(0, 4, 11)[:, None] * [0, 1, 0]
  frames = scenes.moving(TICKS, SIDE)
  together = followed(LatentTracker(*made, many, chunk=CHUNK), frames)
  alone = followed(LatentTracker(*made, many[10:], chunk=CHUNK), frames)
  np.testing.assert_allclose(together[0][10:], alone[0], atol=1e-4)


def test_no_query_gives_no_track(made):
  tracks, visible, _ = followed(LatentTracker(*made, ASKED[:0]), scenes.moving(TICKS, SIDE), 8)
  assert tracks.shape == (0, TICKS, 2) and visible.shape == (0, TICKS)


def test_a_chunk_that_ends_early_ends_the_video(made):
  tracker, frames = LatentTracker(*made, ASKED, chunk=CHUNK), scenes.moving(TICKS, SIDE)
  with pytest.raises(ValueError, match="8 frames after 0; give 4 at a time"):
    tracker(frames)
  assert tracker(frames[:3]).tracks.shape == (4, 3, 2)
  with pytest.raises(ValueError, match="4 frames after 3; give 4 at a time, fewer only at the end"):
    tracker(frames[3:7])


def test_a_model_whose_latents_have_no_position_is_refused():
  model = perceiver_stream.build("stream_perceiver/nano")
  assert num_positioned(model) == 0
  with pytest.raises(ValueError, match="no latent of this model has a position .*PredictCorrect"):
    LatentTracker(model, {}, ASKED)
  assert latent_tracking.untrained_model("stream_perceiver/nano") is None


def test_track_takes_it_by_name_and_it_is_a_method_of_clips(made):
  start, about = tracking.make_tracker("stream_perceiver/nano_positions", 4)
  assert about == "stream_perceiver/nano_positions, by the fixed rules of its latents"
  assert isinstance(start(ASKED), LatentTracker)
  frames = scenes.moving(TICKS, SIDE)
  method = method_of(lambda asked: LatentTracker(*made, asked, chunk=CHUNK), chunk=CHUNK)
  tracks, hidden = method(frames, ASKED)
  assert tracks.shape == (4, TICKS, 2) and not np.isnan(tracks).any()
  np.testing.assert_array_equal(hidden, np.arange(TICKS) < ASKED[:, :1])


def test_all_chunks_of_a_video_use_one_program(made):
  tracker, frames = LatentTracker(*made, ASKED, chunk=CHUNK), scenes.moving(TICKS, SIDE)
  tracker(frames[:CHUNK])
  programs = latent_tracking._watch._cache_size()
  tracker(frames[CHUNK:])
  assert latent_tracking._watch._cache_size() == programs


def test_latents_of_a_file_are_its_tracker(made, tmp_path):
  file = tmp_path / "positions.safetensors"
  zoo.save(file, *made)
  start, about = tracking.make_tracker(str(file), 2)
  assert about.endswith("by the positions of its latents")
  wanted = LatentTracker(*made, ASKED, chunk=tracking.CHUNK)
  frames = scenes.moving(TICKS, SIDE)
  np.testing.assert_array_equal(start(ASKED)(frames).tracks, wanted(frames).tracks)
  config, params = point_readout.Config(dim=8, num_heads=2), {"tracker": {"w": np.zeros(3)}}
  zoo.save(file, *made, readouts={"points": zoo.loading.Readout(config, params)})
  assert latent_tracking.trained_model(file) is None  # its read-out is
