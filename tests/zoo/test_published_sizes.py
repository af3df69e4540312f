"""Names, shapes and counts of the published models, without making an array."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.models import mapping as translation
from perceiver_stream.models.base import Model
from perceiver_stream.models.moog import weights as moog_weights
from perceiver_stream.models.perceiver_io.weights import DEEPMIND
from perceiver_stream.models.rvm import weights as rvm_weights


def shapes(name: str) -> dict:
  """Returns the parameters' shapes of a model of the zoo."""
  model = zoo.build(name)
  assert isinstance(model, Model)
  observation = {
    n: jax.ShapeDtypeStruct((1, *m.spec.shape), m.spec.dtype)
    for n, m in model.modalities.items()
    if m.config.use_input
  }
  return jax.eval_shape(model.init, jax.random.key(0), observation)


def published(name: str, rules) -> dict[str, tuple[int, ...]]:
  return {p.name: p.shape for p in translation.published_names(shapes(name), rules).values()}


def count(tree: dict) -> int:
  return sum(int(np.prod(shape)) for shape in tree.values())


PERCEIVERS = {
  "perceiver_flow/published": (41_057_134, 425),
  "perceiver_autoencoder/kinetics": (19_858_855, 183),
  "perceiver_classifier/fourier": (48_440_627, 136),
}


@pytest.mark.parametrize("name", PERCEIVERS)
def test_perceivers_have_the_published_parameters(name):
  tree = published(name, DEEPMIND[name.split("/")[0]])
  assert (count(tree), len(tree)) == PERCEIVERS[name]


def attention_shapes(latent, kv, query):
  """Shapes that the specification gives for a cross-attention of `latent` over `kv`."""
  return {"linear": (latent, query), "linear_1": (kv, query), "linear_2": (kv, query),
          "linear_3": (query, latent)}  # fmt: skip


@pytest.mark.parametrize(
  "name, encoder, decoder, latent, kv, query, output",
  [
    ("perceiver_flow/published", "perceiver_encoder", "flow_decoder", 512, 322, 322, 2),
    ("perceiver_autoencoder/kinetics", "encoder", "multimodal_decoder", 512, 704, 1026, 512),
    (
      "perceiver_classifier/fourier", "perceiver_encoder", "classification_decoder",
      1024, 261, 1024, 1000,
    ),
  ],
)  # fmt: skip
def test_perceiver_names_and_shapes(name, encoder, decoder, latent, kv, query, output):
  tree = published(name, DEEPMIND[name.split("/")[0]])
  for part, shape in attention_shapes(latent, kv, kv).items():
    assert tree[f"{encoder}/~/cross_attention/attention/{part}/w"] == shape
  cross = f"{decoder}/~/basic_decoder/cross_attention"
  for part, shape in attention_shapes(query, latent, latent).items():
    assert tree[f"{cross}/attention/{part}/w"] == shape
  assert tree[f"{cross}/mlp/linear/w"] == (query, query)
  assert tree[f"{decoder}/~/basic_decoder/output/w"] == (query, output)
  assert tree[f"{encoder}/~/self_attention_1/mlp/linear_1/w"] == (latent, latent)
  assert tree[f"{encoder}/~/self_attention/layer_norm_1/offset"] == (latent,)


def test_autoencoder_paddings():
  tree = published("perceiver_autoencoder/kinetics", DEEPMIND["perceiver_autoencoder"])
  widths = {"audio": (303, 641), "image": (461, 831), "label": (4, 2)}
  for name, (token, query) in widths.items():
    assert tree[f"multimodal_preprocessor/{name}_padding/pos_embs"] == (1, token)
    assert tree[f"multimodal_preprocessor/{name}_mask_token/pos_embs"] == (1, 704)
    assert tree[f"multimodal_decoder/~decoder_query/{name}_padding/pos_embs"] == (1, query)
  assert tree["audio_postprocessor/linear/w"] == (512, 16)
  assert tree["projection_postprocessor/linear/w"] == (512, 3)
  assert tree["classification_postprocessor/linear/w"] == (512, 700)


def test_the_other_classifiers():
  learned = published("perceiver_classifier/learned", DEEPMIND["perceiver_classifier"])
  assert learned["image_preprocessor/~/conv2_d/w"] == (1, 1, 3, 256)
  start = "image_preprocessor/~_build_network_inputs"
  assert learned[f"{start}/trainable_position_encoding/pos_embs"] == (50_176, 256)
  assert learned[f"{start}/position_encoding_projector/linear/w"] == (256, 256)
  assert learned["perceiver_encoder/~/cross_attention/layer_norm_1/scale"] == (512,)
  conv = published("perceiver_classifier/conv", DEEPMIND["perceiver_classifier"])
  start = "image_preprocessor/~/conv2_d_downsample/~"
  assert conv[f"{start}/conv/w"] == (7, 7, 3, 64)
  assert conv[f"{start}/batchnorm/scale"] == (1, 1, 1, 64)
  assert conv[f"{start}/batchnorm/~/mean_ema/average"] == (1, 1, 1, 64)
  assert conv["perceiver_encoder/~/cross_attention/layer_norm_1/scale"] == (322,)


MOOG = {
  "moog/movi": ("", 34_726_787, 181, {
    "encoder": 2_593_792, "predictor": 7_877_504, "corrector": 8_398_848,
    "decoder": 15_856_131, "correction_layer_norm": 512,
  }),
  "moog/ego4d": ("pretrained_model/", None, None, {
    "encoder": 2_896_976, "predictor_sa": 7_877_504, "predictor_ca": 8_562_688,
    "state_layer_norm": 512,
  }),
}  # fmt: skip


@pytest.mark.parametrize("name", MOOG)
def test_moog_has_the_published_parameters(name):
  prefix, total, arrays, parts = MOOG[name]
  tree = published(name, moog_weights.backbone(prefix, zoo.config(name)))
  for part, expected in parts.items():
    mine = {n: s for n, s in tree.items() if n.startswith(f"{prefix}{part}/")}
    assert count(mine) == expected, part
  if total:
    assert (count(tree), len(tree)) == (total, arrays)
  else:
    rest = {n: s for n, s in tree.items() if "/decoder/" not in n}
    assert (count(rest), len(rest)) == (19_337_680, 100)
  assert tree[f"{prefix}encoder/backbone/Conv_5/kernel"] == (3, 3, 256, 512)


# The release's list: parameters, which for S and B are those of no part of their file, and its MB.
RVM = [
  ("small", 384, 12, 6, None, 270),
  ("base", 768, 12, 12, None, 641),
  ("large", 1024, 24, 16, 375, 1_600),
  ("huge", 1280, 32, 16, 743, 3_100),
]


@pytest.mark.parametrize("name, dim, layers, heads, millions, megabytes", RVM)
def test_rvm_has_the_published_parameters(name, dim, layers, heads, millions, megabytes):
  config = zoo.config(f"rvm/{name}")
  tree = published(f"rvm/{name}", rvm_weights.rules(config))
  assert tree["tokenizer/patch_embedding/Conv_0/kernel"] == (1, 16, 16, 3, dim)
  query = tree[f"encoder/layers_{layers - 1}/attention/query/kernel"]
  assert query == (dim, heads, dim // heads)
  assert tree["rnn_core/transformer/xa_blocks_3/ca_attention/out/kernel"] == (
    heads, dim // heads, dim
  )  # fmt: skip
  assert tree["decoder/xa_blocks_7/mlp/dense_in/kernel"] == (512, 2048)
  assert len([n for n in tree if re.match(r"decoder/xa_blocks_\d+/mlp_norm/scale", n)]) == 8
  if millions:  # the round number on the file is that of encoder and core
    core = {n: s for n, s in tree.items() if n.startswith(("encoder", "rnn", "token", "cls"))}
    assert count(core) == pytest.approx(millions * 1e6, rel=0.002)
  rounded = 1 if megabytes < 1000 else 50
  assert 4e-6 * count(tree) == pytest.approx(megabytes, abs=rounded)


@pytest.mark.parametrize("name", [n for n in zoo.names() if not n.startswith("stream_perceiver")])
def test_every_parameter_is_float32_and_named_after_its_family(name):
  family = name.split("/")[0]
  for key, value in translation.flatten(shapes(name)).items():
    assert key.split("/")[0] == family
    assert value.dtype == jnp.float32
