"""Every format comes back as the model it was, and what does not fit is named."""

import json
import pickle
import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from perceiver_stream import zoo
from perceiver_stream.models import mapping as translation
from perceiver_stream.models.moog import weights as moog_weights
from perceiver_stream.models.moog.config import DecoderConfig
from perceiver_stream.models.perceiver_io.weights import DEEPMIND, HUGGING_FACE
from perceiver_stream.models.rvm import weights as rvm_weights
from perceiver_stream.zoo import configs, loading
from perceiver_stream.zoo.published import detect

NANO = [n for n in zoo.names() if n.endswith("/nano")]


def shaken(model):
  """Returns random parameters, biases and scales too."""
  rng = np.random.default_rng(0)
  shapes = loading.template(model)
  return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def same(one, other):
  one, other = translation.flatten(one), translation.flatten(other)
  assert set(one) == set(other)
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# --- our own format ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NANO)
def test_saved_models_come_back_with_config_and_card(name, tmp_path):
  model = zoo.build(name)
  params = shaken(model)
  path = tmp_path / "model.safetensors"
  zoo.save(path, model, params)
  loaded, back = zoo.load(path)
  same(params, back)
  assert loaded.config == model.config
  card = loading.card_of(model)
  assert loading.read_card(path) == ({} if card is None else vars(card))


@pytest.mark.parametrize("name", [n for n in zoo.names() if not n.endswith("/nano")])
def test_configs_survive_json(name):
  config = zoo.config(name)
  assert configs.from_json(configs.to_json(config)) == config


@pytest.mark.parametrize(
  "text, message",
  [
    ('{"class": "os:system"}', "'perceiver_stream.os.system' is not from perceiver_stream"),
    ('{"_type": "os.system"}', "'os.system' is not from perceiver_stream, so it is not loaded"),
    ('{"class": "models.moog:Moog"}', "is not a config"),
    ('{"class": "models.nothing:Config"}', "there is no type 'perceiver_stream.models.nothing"),
    ('{"class": "models.moog:Config", "wings": 2}', "config has no key 'wings'.*Valid: height, "),
    ("{", "config is not readable as JSON"),
    ("[1]", "a tuple instead of the config of a model"),
    ('{"class": "models.moog:StackConfig", "num_layers": 100000}', "num_layers is 100000; exp"),
    ('{"class": "models.moog:Config", "num_latents": 99999999}', r"config.num_latents is 99999999"),
    ('{"class": "models.moog:Config", "height": 99999, "width": 99999}', "refused: images of"),
    ('{"class": "models.moog:StackConfig"}', "no StackConfig can be made of it .*'num_layers'"),
  ],
)
def test_configs_of_something_else_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    configs.from_json(text)


def test_a_saved_file_without_some_parameters_says_which(tmp_path):
  model = zoo.build("rvm/nano")
  path = tmp_path / "model.safetensors"
  params = translation.flatten(shaken(model))
  del params["rvm/cls_token"]
  params["rvm/wings"] = np.zeros(3, np.float32)
  params["rvm/patches/b"] = np.zeros(5, np.float32)
  zoo.save(path, model, translation.unflatten(params))
  with pytest.raises(ValueError) as error:
    zoo.load(path)
  for part in (
    r"1 missing: rvm/cls_token [1, 16]",
    r"1 not expected: rvm/wings [3]",
    r"1 wrong shape: rvm/patches/b is [5], expected [16]",
  ):
    assert part in str(error.value)


# --- published formats ------------------------------------------------------------------------------


def write_npz(path, arrays):
  np.savez(path, **arrays)
  return path


@pytest.mark.parametrize("name", [n for n in NANO if zoo.family(zoo.config(n)).detect])
def test_the_smallest_of_a_published_family_comes_back_from_published_names(name, tmp_path):
  model = zoo.build(name)
  params, rules = shaken(model), zoo.family(model.config).rules
  assert rules is not None, "with `detect`, give FAMILY `rules` too"
  arrays = translation.export_params(params, rules(model.config))
  path = write_npz(tmp_path / "published.npz", arrays)
  loaded, back = zoo.load(path, **vars(model.config))  # not all sizes show in shapes
  same(params, back)
  assert loaded.config == model.config
  missing = sorted(arrays)[0]
  del arrays[missing]
  with pytest.raises(ValueError, match=f"1 missing: {re.escape(missing)} "):
    zoo.load(write_npz(path, arrays), **vars(model.config))


def test_moog_comes_back_from_its_npz(tmp_path):
  """Sizes are read off the shapes; what the file does not say is given."""
  published = zoo.config("moog/ego4d")
  config = zoo.config("moog/nano")
  config.norm_first, config.float32_positions = True, True
  config.encoder.add_positions = False
  config.encoder.channels = (4, 4, 6, 6, 8, 8)
  config.encoder.strides = published.encoder.strides
  config.encoder.kernels = ((3, 3),) * 6
  config.sample, config.displacements = 8, (1,)
  model = zoo.build(config)
  params = shaken(model)
  rules = moog_weights.backbone("pretrained_model/", config)
  path = write_npz(tmp_path / "moog.npz", translation.export_params(params, rules))
  loaded, back = zoo.load(path, height=16, width=16, num_latents=8)
  same(params, back)
  assert loaded.config == config


def test_a_moog_file_without_decoder_gives_latents_only(tmp_path):
  config = zoo.config("moog/nano")
  params = shaken(zoo.build(config))
  arrays = translation.export_params(params, moog_weights.backbone("", config))
  arrays = {n: x for n, x in arrays.items() if not n.startswith("decoder/")}
  path = write_npz(tmp_path / "moog.npz", arrays)
  strides = {"encoder": config.encoder}
  model, back = zoo.load(path, height=16, width=16, num_latents=8, **strides)
  assert model.config.decoder is None and isinstance(config.decoder, DecoderConfig)
  frame = {"pixels": jnp.zeros((1, 16, 16, 3), jnp.uint8)}
  outputs, _ = model.step(back, model.initial_state(back), frame)
  assert outputs.predictions == {} and outputs.latents.shape == (1, 8, 16)


def test_rvm_comes_back_from_its_npz(tmp_path):
  config = zoo.config("rvm/nano")
  config.displacements, config.mask_ratio = (4,), 0.95
  model = zoo.build(config)
  params = shaken(model)
  arrays = translation.export_params(params, rvm_weights.rules(config))
  path = write_npz(tmp_path / "rvm.npz", arrays)
  loaded, back = zoo.load(path, height=16, width=16, base_grid=(4, 4))
  same(params, back)
  assert loaded.config == config


SIZES = {
  "perceiver_flow": {"height", "width", "patch_dim", "positions", "encoder"},
  "perceiver_autoencoder": {
    "num_frames", "height", "width", "samples", "num_classes", "audio_positions",
    "image_positions", "label_query_dim", "decoded_dim", "encoder",
  },
  "perceiver_classifier": {"height", "width", "num_classes", "tokens", "encoder", "query_dim"},
}  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True], ids=["mapping", "params_and_state"])
@pytest.mark.parametrize("family", SIZES)
def test_perceivers_come_back_from_deepmind_pickles(family, wrapped, tmp_path):
  config = zoo.config(f"{family}/nano")
  params = shaken(zoo.build(config))
  nested = translation.unflatten(translation.export_params(params, DEEPMIND[family]))
  tree = hk.data_structures.to_immutable_dict(nested)
  path = tmp_path / "weights.pystate"
  path.write_bytes(pickle.dumps({"params": tree, "state": {}} if wrapped else tree))
  changes = {name: getattr(config, name) for name in SIZES[family]}
  loaded, back = zoo.load(path, **changes)
  same(params, back)
  assert loaded.config.encoder == config.encoder


def hugging_face_config(architecture, config, **more):
  e = config.encoder
  return {
    "architectures": [architecture],
    "num_latents": e.num_latents,
    "d_latents": e.latent_dim,
    "num_blocks": e.num_blocks,
    "num_self_attends_per_block": e.num_layers,
    "num_cross_attention_heads": e.num_cross_heads,
    "num_self_attention_heads": e.num_self_heads,
    "cross_attention_widening_factor": e.cross_mlp_factor,
    "self_attention_widening_factor": e.self_mlp_factor,
    "qk_channels": e.qk_dim,
    "v_channels": e.v_dim,
    "cross_attention_shape_for_attention": "kv",
    "use_query_residual": e.use_query_residual,
  } | more


def test_a_perceiver_comes_back_from_hugging_face(tmp_path):
  config = zoo.config("perceiver_flow/published")
  small = zoo.config("perceiver_flow/nano")
  config.encoder, config.height, config.width = small.encoder, 12, 16
  config.decoder = type(config.decoder)()
  params = shaken(zoo.build(config))
  arrays = translation.export_params(params, HUGGING_FACE["perceiver_flow"])
  assert arrays["perceiver.encoder.cross_attention.attention.self.query.weight"].shape == (322, 16)
  save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "model.safetensors")
  with pytest.raises(ValueError, match="no config.json in its folder"):
    zoo.load(tmp_path / "model.safetensors")
  about = hugging_face_config("PerceiverForOpticalFlow", config, train_size=[12, 16])
  (tmp_path / "config.json").write_text(json.dumps(about))
  loaded, back = zoo.load(tmp_path)
  same(params, back)
  assert loaded.config == config
  (tmp_path / "config.json").write_text(json.dumps(about | {"train_size": [10**6, 10**6]}))
  with pytest.raises(ValueError, match="refused: images of .*; the most"):
    zoo.load(tmp_path)
  (tmp_path / "config.json").write_text(
    json.dumps(about | {"cross_attention_shape_for_attention": "x"})
  )
  with pytest.raises(ValueError, match="shape_for_attention is 'x', expected 'kv' or 'q'"):
    zoo.load(tmp_path)
  (tmp_path / "config.json").write_text("{nonsense")
  with pytest.raises(ValueError, match="config.json is not readable as JSON"):
    zoo.load(tmp_path)
  about["architectures"] = ["PerceiverForMaskedLM"]
  (tmp_path / "config.json").write_text(json.dumps(about))
  with pytest.raises(ValueError, match="architecture PerceiverForMaskedLM is not one of"):
    zoo.load(tmp_path)


def test_the_queries_can_give_the_width_of_cross_attention(tmp_path):
  config = zoo.config("perceiver_flow/published")
  config.encoder, config.height, config.width = zoo.config("perceiver_flow/nano").encoder, 12, 16
  config.encoder.qk_from_tokens, config.decoder.qk_dim = False, 322
  arrays = translation.export_params(shaken(zoo.build(config)), HUGGING_FACE["perceiver_flow"])
  save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "model.safetensors")
  about = hugging_face_config("PerceiverForOpticalFlow", config, train_size=[12, 16])
  about["cross_attention_shape_for_attention"] = "q"
  (tmp_path / "config.json").write_text(json.dumps(about))
  loaded, _ = zoo.load(tmp_path)
  assert (loaded.config.encoder, loaded.config.decoder.qk_dim) == (config.encoder, 322)


def test_hugging_face_kernels_are_reversed_back(tmp_path):
  del tmp_path
  rules = HUGGING_FACE["perceiver_classifier"]
  kernel = np.arange(7 * 7 * 3 * 4, dtype=np.float32).reshape(7, 7, 3, 4)
  exported = translation.export_params({"perceiver_classifier/conv": {"w": kernel}}, rules)
  theirs = exported["perceiver.input_preprocessor.convnet.conv.weight"]
  np.testing.assert_array_equal(theirs[1, 2, 3, 4], kernel[4, 3, 2, 1])


def test_arrays_that_sizes_are_read_from_are_missed_by_name(tmp_path):
  config = zoo.config("rvm/nano")
  arrays = translation.export_params(shaken(zoo.build(config)), rvm_weights.rules(config))
  sizes = {"height": 16, "width": 16, "base_grid": (4, 4)}
  for name in ("decoder/xa_blocks_0/ca_attention/query/kernel", "rnn_core/state_layer_norm/scale"):
    path = write_npz(tmp_path / "rvm.npz", {n: x for n, x in arrays.items() if n != name})
    with pytest.raises(
      ValueError, match=rf"rvm.npz: parameters do not fit .* 1 missing: {name} \["
    ):
      zoo.load(path, **sizes)
  flat = arrays | {"decoder_embedder/bias": np.float32(1), "wings": np.zeros(3)}
  del flat["encoder/layers_0/mlp/dense_in/kernel"], flat["encoder/layers_0/mlp/dense_in/bias"]
  with pytest.raises(ValueError) as error:
    zoo.load(write_npz(tmp_path / "rvm.npz", flat), **sizes)
  for part in (
    "2 missing: encoder/layers_0/mlp/dense_in/bias [",
    "1 not expected: wings [3]",
    "decoder_embedder/bias is [], expected [512]",  # of the release: the file does not say
  ):
    assert part in str(error.value)


@pytest.mark.parametrize("prefix", ["encoder/backbone/Conv_0", "predictor", "decoder/recon"])
def test_a_moog_file_with_holes_is_described(prefix, tmp_path):
  config = zoo.config("moog/nano")
  rules = moog_weights.backbone("", config)
  arrays = translation.export_params(shaken(zoo.build(config)), rules)
  path = write_npz(
    tmp_path / "moog.npz", {n: x for n, x in arrays.items() if not n.startswith(f"{prefix}/")}
  )
  sizes = {"height": 16, "width": 16, "num_latents": 8, "encoder": config.encoder}
  with pytest.raises(ValueError, match=rf"moog.npz: parameters .* missing: {prefix}/"):
    zoo.load(path, **sizes)


# --- what does not fit ------------------------------------------------------------------------------


def test_fields_that_do_not_exist_are_named(tmp_path):
  model = zoo.build("rvm/nano")
  path = tmp_path / "model.safetensors"
  zoo.save(path, model, shaken(model))
  with pytest.raises(ValueError, match=r"\['wings'\] are no fields of the config; it has \["):
    zoo.load(path, wings=2)


def test_unknown_arrays_are_described():
  with pytest.raises(
    ValueError, match=r"x.npz: 1 arrays, the first \['what'\], belong to no known"
  ):
    detect({"what": np.zeros(1)}, "x.npz")


def test_a_parameter_without_a_rule_is_our_mistake_and_says_so():
  with pytest.raises(KeyError, match="no rule gives the name of 'a/b/w'"):
    translation.published_names({"a/b": {"w": np.zeros(1)}}, [])


def test_long_lists_of_names_are_cut():
  wanted = {f"name_{i}": (1,) for i in range(100)}
  with pytest.raises(ValueError, match="100 missing: name_0 .*; and 60 more"):
    translation.check_names({}, wanted, source="file")
