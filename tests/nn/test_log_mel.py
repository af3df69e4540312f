"""Log-mel: numbers of frames, the loudest band of a tone, and the empty bands of the release."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.log_mel import log_mel, mel_matrix


@pytest.mark.parametrize("samples, hop, frames", [(4000, 160, 25), (4001, 160, 26), (100, 320, 1)])
def test_one_frame_per_hop_and_silence_is_zero(samples, hop, frames):
  found = log_mel(jnp.zeros((2, samples)), rate_hz=16000, num_mels=8, hop=hop)
  assert found.shape == (2, frames, 8) and not np.any(found)


@pytest.mark.parametrize("hz", [300, 1000, 4000])
def test_a_tone_is_loudest_in_the_band_around_it(hz):
  tone = jnp.asarray(np.sin(2 * np.pi * hz * np.arange(16000) / 16000), jnp.float32)
  found = np.asarray(log_mel(tone, rate_hz=16000, num_mels=20, hop=160))[5].argmax()
  mel = lambda hz: 1127 * np.log1p(hz / 700)  # noqa: E731
  centres = np.linspace(mel(80), mel(7600), 22)[1:-1]
  assert abs(centres[found] - mel(hz)) <= centres[1] - centres[0]


def test_the_released_settings_leave_16_of_80_bands_empty():
  filters = mel_matrix(80, 161, 48000)
  assert np.sum(~filters.any(axis=0)) == 16 and not filters[0].any()
