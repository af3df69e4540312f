"""Dense read-outs: every modality, from latents alone or with frames, without touching the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import shaken

from perceiver_stream.modalities import audio, depth, flow, pixels, segmentation, vector
from perceiver_stream.models import dense_readout
from perceiver_stream.models.dense_readout import Config
from perceiver_stream.models.point_readout import Features

SIZE = {"height": 8, "width": 12, "patch": 4}
READ = {
  "depth": depth.Config(**SIZE),
  "flow": flow.Config(**SIZE),
  "segmentation": segmentation.Config(**SIZE, num_classes=4),
  "pixels": pixels.Config(**SIZE),
  "audio": audio.Config(),
  "vector": vector.Config(size=3),
}


def sight(seed=0):
  rng = np.random.default_rng(seed)
  real = lambda *shape: jnp.asarray(rng.uniform(size=shape), jnp.float32)  # noqa: E731
  return Features(real(2, 5, 8), real(2, 8, 12, 3), real(2, 8, 12, 3))


@pytest.mark.parametrize("use_frames", [True, False])
def test_all_modalities_are_read_from_what_may_be_seen(use_frames):
  reader = dense_readout.build(Config(modalities=READ, dim=8, num_heads=2, use_frames=use_frames))
  seen = sight()
  params = shaken(reader.init(jax.random.PRNGKey(0), seen))
  answers = reader.read(params, seen)
  assert set(answers) == set(READ)
  other = reader.read(params, seen._replace(last=seen.last[:, ::-1]))
  deaf = reader.read(params, seen._replace(latents=2 * seen.latents[:, :, ::-1]))
  for name, modality in reader.modalities.items():
    assert answers[name].shape == modality.prior(2).shape
    is_picture = len(modality.grid_shape()) == 2
    assert np.array_equal(answers[name], other[name]) != (use_frames and is_picture)
    assert not np.allclose(answers[name], deaf[name])


def test_untrained_it_says_the_prior():
  reader = dense_readout.build(Config(modalities=READ, dim=8, num_heads=2))
  seen = sight()
  params = reader.init(jax.random.PRNGKey(0), seen)
  for name, answer in reader.read(params, seen).items():
    np.testing.assert_allclose(answer, reader.modalities[name].prior(2), atol=1e-5)


@pytest.mark.parametrize(
  ("config", "seen", "message"),
  [
    (Config(), None, "modalities is empty; name what is to be read out"),
    (Config(modalities=READ, dim=9), None, "dim=9 is not a multiple of num_heads=4"),
    (
      Config(modalities={"depth": depth.Config(height=20, width=12, patch=4)}),
      sight(),
      "8×12 pixels cannot be cut into a grid of 5×3 cells; change the modality's patch",
    ),
    (
      Config(modalities=READ),
      Features(jnp.zeros((2, 5, 8))),
      "state has no frames; use use_frames=False",
    ),
  ],
)
def test_what_does_not_fit(config, seen, message):
  with pytest.raises(ValueError, match=message):
    reader = dense_readout.build(config)
    reader.init(jax.random.PRNGKey(0), seen)
