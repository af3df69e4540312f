"""Log-mel by tensorflow-io is ours."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from extras import need

from perceiver_stream.modalities import audio
from perceiver_stream.modalities.tf_log_mel import log_mel


@pytest.mark.parametrize(
  "fields", [{}, {"num_samples": 4410, "rate_hz": 22050.0, "patch": 14, "window": 512, "hop": 441}]
)
def test_tensorflow_io_gives_our_log_mel(fields):
  need("tensorflow", "tensorflow_io")
  config = audio.Config(**fields)
  rng = np.random.default_rng(0)
  time = np.arange(config.num_samples) / config.rate_hz
  for samples in (
    rng.normal(0, 0.1, config.num_samples),
    0.5 * np.sin(2 * np.pi * 440 * time),
    np.zeros(config.num_samples),
    np.eye(1, config.num_samples, 300)[0],
  ):
    samples = samples.astype(np.float32)
    theirs = log_mel(samples, config).numpy()
    ours = np.asarray(audio.Audio("audio", config).log_mel(jnp.asarray(samples)))
    assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
    np.testing.assert_allclose(theirs, ours, atol=2e-3)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  with pytest.raises(ImportError, match=r'is not there .*"perceiver_stream\[tf\]"'):
    log_mel(np.zeros(640, np.float32), audio.Config())
