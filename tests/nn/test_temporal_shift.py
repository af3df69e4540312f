"""The rotating shift moves whole channel groups, and single images have a stand-in."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.temporal_shift import (
  deflated_shift,
  num_shifted,
  order_preserving_shift,
  rotating_shift,
)
from perceiver_stream.nn.timeline import Memory, Timeline


@pytest.mark.parametrize("channels, share, num", [(8, 0.125, 1), (20, 0.125, 2), (6, 0.5, 3)])
def test_every_channel_comes_from_its_frame(channels, share, num):
  x = np.random.default_rng(0).normal(size=(2, 5, 1, 3, channels)).astype(np.float32)
  y = np.asarray(rotating_shift(jnp.asarray(x), share))
  assert num_shifted(channels, share) == num
  np.testing.assert_array_equal(y[:, :-1, ..., :num], x[:, 1:, ..., channels - num :])
  np.testing.assert_array_equal(y[:, 1:, ..., channels - num :], x[:, :-1, ..., :num])
  np.testing.assert_array_equal(y[..., num : channels - num], x[..., num : channels - num])
  assert not y[:, -1, ..., :num].any() and not y[:, 0, ..., channels - num :].any()


@pytest.mark.parametrize("channels, share", [(7, 0.125), (8, 0.7), (4, 0.0)])
def test_shifts_of_nothing_or_too_much_are_refused(channels, share):
  with pytest.raises(ValueError, match=f"{channels} channels with share={share} shift .* each way"):
    rotating_shift(jnp.zeros((1, 2, 1, 1, channels)), share)


def test_an_image_is_a_static_clip_whose_ends_are_averaged():
  image = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 2, 8)).astype(np.float32))
  frames = 4
  clip = jnp.repeat(image[:, None], frames, axis=1)
  mean = jnp.mean(rotating_shift(clip), axis=1)
  np.testing.assert_allclose(mean, deflated_shift(image, alpha=(frames - 1) / frames), rtol=1e-6)


def test_the_online_shift_reads_the_past_only_and_equals_the_clip():
  clips = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 2, 3, 9)).astype(np.float32))
  whole = order_preserving_shift(clips, Timeline(causal=True), 3, name="shift")
  np.testing.assert_array_equal(whole[:, 1:, ..., :3], clips[:, :-1, ..., :3])
  np.testing.assert_array_equal(whole[..., 3:], clips[..., 3:])
  state = {}
  for t in range(5):
    memory = Memory(state)
    step = Timeline(causal=True, memory=memory)
    shifted = order_preserving_shift(clips[:, t : t + 1], step, 3, name="shift")
    np.testing.assert_array_equal(shifted, whole[:, t : t + 1])
    state = memory.after
  assert {k: v.shape for k, v in state.items()} == {"shift": (2, 1, 2, 3, 3)}
  with pytest.raises(ValueError, match="9 channels with fold_div=10 shift 0 each way"):
    order_preserving_shift(clips, Timeline(), 10, name="shift")
