"""What a model says to what it cannot take."""

import jax
import jax.numpy as jnp
import pytest

import perceiver_stream
from perceiver_stream.core import CoreConfig, PredictCorrectConfig
from perceiver_stream.modalities import pixels
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.models.stream_perceiver.network import fitted
from perceiver_stream.nn import Precision
from perceiver_stream.types import ModalitySpec


@pytest.fixture(scope="module")
def nano():
  return perceiver_stream.build("stream_perceiver/nano")


def observation(**changes):
  return {"pixels": jnp.zeros((1, 16, 16, 3), jnp.uint8)} | changes


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"pixels": jnp.zeros((1, 17, 16, 3))}, r"'pixels' has shape \[1, 17, 16, 3\], expected \[1, 16, 16, 3\]"),
    ({"pixels": jnp.zeros((16, 16, 3))}, r"without its batch axis; add the leading axes \[B\]"),
    ({"pixles": jnp.zeros(1)}, "'pixles', which is not an input of this model. Did you mean 'pixels'"),
    ({"audio": jnp.zeros((2, 640))}, r"'audio' has shape \[2, 640\], expected \[1, 640\]"),
  ],
)  # fmt: skip
def test_observations_that_do_not_fit_are_explained(nano, wrong, message):
  with pytest.raises(ValueError, match=message):
    nano.init(jax.random.key(0), observation(**wrong))


def test_an_observation_without_any_modality_is_explained(nano):
  with pytest.raises(ValueError, match=r"but the model reads \['audio', 'pixels'\]"):
    nano.init(jax.random.key(0), {"is_first": jnp.zeros(1, bool)})


def test_what_the_model_does_not_read_is_left_out(nano):
  extra = observation(depth=jnp.zeros((1, 4, 4)), timestamp_s=jnp.zeros(1))
  assert nano.init(jax.random.key(0), extra)


def test_queries_for_an_unknown_modality_are_refused(nano):
  with pytest.raises(ValueError, match=r"modality 'smell' is not one of \['audio', 'pixels'\]"):
    nano.queries("smell")


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (lambda: Config(), "no modality has use_input=True"),
    (lambda: Config(modalities={"pixels": pixels.Config()}, displacements=(-1,)), r"displacements \(-1,\)"),
    (lambda: Config(modalities={"pixels": pixels.Config()}, num_decoder_heads=3), "query_dim=128 is not a multiple"),
    (lambda: Config(modalities={"pixels": pixels.Config()}, precision=Precision(compute="fp8")), "dtype 'fp8' is unknown"),
    (
      lambda: Config(modalities={"pixels": pixels.Config()}, core=PredictCorrectConfig(num_heads=3)),
      "latent_dim=128 is not a multiple of num_heads=3",
    ),
  ],
)  # fmt: skip
def test_configs_that_contradict_themselves_are_refused(config, message):
  with pytest.raises(ValueError, match=message):
    config()


def test_a_core_of_no_known_type_is_refused():
  config = Config(modalities={"pixels": pixels.Config()}, core=CoreConfig())
  with pytest.raises(TypeError, match="core config CoreConfig is not one of"):
    perceiver_stream.build(config)


def test_fitting_takes_the_sizes_of_the_stream_and_drops_the_rest():
  config = perceiver_stream.config("stream_perceiver/nano")
  small = fitted(config, {"pixels": ModalitySpec(shape=(32, 48, 3), dtype="uint8", rate_hz=10.0)})
  assert list(small.modalities) == ["pixels"]
  assert (small.modalities["pixels"].height, small.modalities["pixels"].width) == (32, 48)
  with pytest.raises(ValueError, match="nothing is shared"):
    fitted(config, {"lidar": ModalitySpec(shape=(4,))})


def test_unknown_model_names_the_nearest():
  with pytest.raises(ValueError, match="Did you mean 'stream_perceiver/tiny'"):
    perceiver_stream.build("stream_perceiver/tyni")


@pytest.mark.parametrize("variant", ["small", "base"])
def test_big_variants_build_without_memory(variant):
  model = perceiver_stream.build(f"stream_perceiver/{variant}")
  shapes = {
    n: jax.ShapeDtypeStruct((1, *m.spec.shape), m.spec.dtype) for n, m in model.modalities.items()
  }
  params = jax.eval_shape(model.init, jax.random.key(0), shapes)
  assert sum(x.size for x in jax.tree.leaves(params)) > 1e6
