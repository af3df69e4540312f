import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import modalities
from perceiver_stream.inference import griffin_lim
from perceiver_stream.modalities import audio

CONFIG = audio.Config()  # 640 samples at 16 kHz
TICKS = 25


def log_mel(sound, config=CONFIG):
  modality = modalities.build("audio", config)
  return np.asarray(modality.copy(jnp.asarray(sound.reshape(-1, config.num_samples), jnp.float32)))


def time(config=CONFIG, ticks=TICKS):
  return np.arange(ticks * config.num_samples) / config.rate_hz


@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_comes_back_at_its_pitch_and_loudness(hz):
  tone = 0.3 * np.sin(2 * np.pi * hz * time())
  again = griffin_lim.waveform(log_mel(tone), CONFIG)
  assert again.shape == tone.shape
  spectrum = np.abs(np.fft.rfft(again))
  heard = np.argmax(spectrum) * CONFIG.rate_hz / len(again)
  assert abs(heard - hz) < 0.12 * hz  # mel bands are that wide
  assert 0.5 < np.std(again) / np.std(tone) < 2


def test_energies_of_natural_like_sound_come_back():
  rng = np.random.default_rng(0)
  noise = np.convolve(rng.normal(size=len(time())), np.hanning(9) / 9, "same")
  sound = 0.2 * noise * (1 + np.sin(2 * np.pi * 2 * time()))
  want = log_mel(sound)
  error = lambda s: np.sqrt(np.mean((log_mel(s) - want) ** 2)) * 10 / np.log(10)  # noqa: E731
  assert error(griffin_lim.waveform(want, CONFIG)) < 6 < error(np.zeros_like(sound))


def test_silence_stays_silent_and_loudness_stays_in_range():
  silent = griffin_lim.waveform(log_mel(np.zeros_like(time())), CONFIG)
  assert np.abs(silent).max() < 1e-3
  loud = griffin_lim.waveform(log_mel(np.sign(np.sin(2000 * time()))) + 3, CONFIG, num_iterations=2)
  assert np.abs(loud).max() <= 1


def test_ticks_that_hops_do_not_divide():
  config = audio.Config(num_samples=1600, window=512, hop=200, patch=16)
  tone = 0.3 * np.sin(2 * np.pi * 800 * time(config, 10))
  again = griffin_lim.waveform(log_mel(tone, config), config)
  assert again.shape == (16000,) and np.isfinite(again).all()
  assert np.std(again[:1600]) > 0.05 < np.std(again[-1600:])


def test_the_floor_is_that_of_the_modality():
  assert np.exp(log_mel(np.zeros_like(time()))).max() == pytest.approx(griffin_lim.FLOOR, rel=1e-3)
