"""A modality with `use_input=False` is predicted from the others, and from them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import shaken

import perceiver_stream
from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.modalities import audio, depth, flow, pixels, segmentation, vector
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.types import ModalitySpec

SIZE = {"height": 8, "width": 8, "patch": 4}
UNSEEN = {
  "audio": audio.Config(use_input=False),
  "depth": depth.Config(**SIZE, use_input=False),
  "flow": flow.Config(**SIZE, use_input=False),
  "segmentation": segmentation.Config(**SIZE, num_classes=4, use_input=False),
  "vector": vector.Config(size=3, use_input=False),
}


def model_of(name: str):
  seen = {"pixels": pixels.Config(**SIZE)}
  if name == "pixels":
    seen = {"pixels": pixels.Config(**SIZE, use_input=False), "audio": audio.Config()}
  return perceiver_stream.build(
    Config(
      modalities=seen | ({name: UNSEEN[name]} if name in UNSEEN else {}),
      core=PredictCorrectConfig(num_latents=5, latent_dim=8, num_heads=2),
      token_dim=8,
      query_dim=8,
      num_decoder_heads=2,
      displacements=(1,),
    )
  )


def watch(model, observations):
  params = model.init(jax.random.PRNGKey(0), jax.tree.map(lambda x: x[0], observations))
  params = shaken(params)
  outputs, _ = model.unroll(params, model.initial_state(params, 2), observations)
  return outputs.predictions


@pytest.mark.parametrize("name", [*UNSEEN, "pixels"])
def test_what_is_not_read_cannot_be_seen(name):
  model, rng = model_of(name), np.random.default_rng(0)
  seen = {n: jnp.asarray(m.random_observation(rng, (3, 2))) for n, m in model.modalities.items()}
  other = seen | {name: jnp.asarray(model.modalities[name].random_observation(rng, (3, 2)))}
  assert not np.array_equal(seen[name], other[name])
  before, after = watch(model, seen)[name], watch(model, other)[name]
  np.testing.assert_array_equal(before, after)
  source = "audio" if name == "pixels" else "pixels"
  changed = seen | {source: jnp.asarray(model.modalities[source].random_observation(rng, (3, 2)))}
  assert not np.array_equal(before, watch(model, changed)[name])


@pytest.mark.parametrize("name", [*UNSEEN, "pixels"])
def test_untrained_it_is_the_prior(name):
  model, rng = model_of(name), np.random.default_rng(0)
  seen = {n: jnp.asarray(m.random_observation(rng, (1, 2))) for n, m in model.modalities.items()}
  params = model.init(jax.random.PRNGKey(0), jax.tree.map(lambda x: x[0], seen))
  outputs, _ = model.unroll(params, model.initial_state(params, 2), seen)
  prior = np.broadcast_to(model.modalities[name].prior(2), outputs.predictions[name][0, :, 0].shape)
  np.testing.assert_allclose(outputs.predictions[name][0, :, 0], prior, atol=1e-5)


def test_depth_takes_its_range_from_the_stream():
  spec = ModalitySpec(shape=(8, 12), minimum=2.0, maximum=10.0, rate_hz=5.0, units="m")
  fitted = depth.Config(**SIZE).fitted(spec)
  assert (fitted.nearest, fitted.farthest, fitted.width, fitted.rate_hz) == (2.0, 10.0, 12, 5.0)
  unbounded = depth.Config(**SIZE).fitted(ModalitySpec(shape=(8, 8), minimum=0.0, maximum=0.0))
  assert (unbounded.nearest, unbounded.farthest) == (0.1, 100.0)
