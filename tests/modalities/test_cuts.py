"""Cuts and still pictures: older memory must not spoil copying where copying is right."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scenes
import trees

import perceiver_stream
from perceiver_stream.modalities import pixels
from perceiver_stream.models.input_memory import remember_ticks

SIZE = 32


def floats(frames):
  return jnp.asarray(frames, jnp.float32) / 255


def shot(seed, ticks=4, speed=1):
  return scenes.moving(ticks, SIZE, speed, seed)


def memories(frames, valid=None, resets_at_cuts=True):
  """Returns the memory of pictures after every tick, of one row."""
  modality = {"pixels": pixels.Pixels("pixels", pixels.Config(height=SIZE, width=SIZE))}
  memory = {"pixels": modality["pixels"].initial_memory(1)}
  observed = {"pixels": jnp.asarray(frames[:, None])}
  if valid is not None:
    observed["pixels_valid"] = jnp.asarray(valid, bool)[:, None]
  remember = jax.jit(functools.partial(remember_ticks, modality, resets_at_cuts=resets_at_cuts))
  return remember(memory, observed).memory["pixels"]


def test_after_a_cut_memory_is_that_of_a_recording_that_starts_there():
  found = memories(np.concatenate([shot(0), shot(100)]))
  trees.assert_close(jax.tree.map(lambda x: x[4:], found), memories(shot(100)), atol=0)


def test_models_that_do_not_reset_at_cuts_keep_the_frame_before_a_cut():
  frames = np.concatenate([shot(0, 1), shot(100, 1)])  # two pictures whose flow is wanted
  found = memories(frames, resets_at_cuts=False)
  np.testing.assert_array_equal(found.previous[1, 0], floats(frames[0]))


def test_within_a_shot_and_where_nothing_was_observed_memory_is_kept():
  frames = shot(0, 6)
  assert memories(frames).count[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
  frames[3] = shot(100)[0]
  assert memories(frames, [1, 1, 1, 0, 1, 1]).count[:, 0].tolist() == [1, 2, 3, 3, 4, 5]


@pytest.fixture(scope="module")
def made():
  config = perceiver_stream.config("stream_perceiver/nano")
  config.modalities = {"pixels": pixels.Config(height=SIZE, width=SIZE)}
  model = perceiver_stream.build(config)
  params = model.init(jax.random.key(0), {"pixels": np.zeros((1, SIZE, SIZE, 3), np.uint8)})
  unroll = jax.jit(model.unroll)
  params = trees.shaken(params, 0.5)

  def changes(frames):
    """Returns how the predictions of every tick differ from its frame, `[T, D, H, W, 3]`."""
    window = {"pixels": jnp.asarray(frames[:, None])}
    predictions = unroll(params, model.initial_state(params), window)[0].predictions["pixels"]
    return np.asarray(predictions[:, 0]) - np.asarray(floats(frames))[:, None]

  return changes


def test_after_a_cut_to_a_still_picture_random_parameters_copy(made):
  """Without the reset, motion matched between two shots moves the new one."""
  change = made(np.concatenate([shot(0, 4, 2), np.repeat(shot(100, 1), 3, axis=0)]))
  assert np.abs(change[2:4]).max() > 1e-2  # not by copying everywhere
  np.testing.assert_allclose(change[4:], 0, atol=1e-5)


def test_a_still_picture_after_a_fade_is_copied_by_random_parameters(made):
  """The slow average is still of the shot before, and nothing moves any more."""
  shares = np.linspace(0, 1, 9)[:, None, None, None]
  fade = ((1 - shares) * shot(0, 1) + shares * shot(100, 1)).astype(np.uint8)
  change = made(np.concatenate([fade, np.repeat(fade[-1:], 3, axis=0)]))
  assert np.abs(change[2:9]).max() > 1e-2
  np.testing.assert_allclose(change[9:], 0, atol=1e-5)


def test_an_object_that_stops_is_no_other_shot():
  frames = np.repeat(shot(0, 1), 12, axis=0)
  for tick in range(12):
    at = min(tick, 8)
    frames[tick, 4:12, at : at + 8] = 128
  assert memories(frames).count[:, 0].tolist() == list(range(1, 13))
