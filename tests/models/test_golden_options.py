"""What a golden file's JSON may say besides: our models follow it, by name and shape.

Of each JSON all numbers and options that an expectation depends on are changed, whatever they were,
and the parameters of the model that is built from it must be those that the specification gives.
Nothing is computed.
"""

import copy

import haiku as hk
import jax
import jax.numpy as jnp
import published
import pytest
from golden import Golden
from golden import paths as golden_paths
from whole_models import WholeMoog, WholeRvm

from perceiver_stream.models import mapping as translation
from perceiver_stream.models.moog import weights as moog_weights
from perceiver_stream.models.moog.readouts import ClipReadout
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.perceiver_io.weights import DEEPMIND
from perceiver_stream.models.rvm import weights as rvm_weights


def hyper(model, changes, **wanted):
  """Returns the numbers of a golden file of that model, some of them changed.

  Args:
    model: The kind of the file; the first file with `wanted` numbers is taken.
    changes: `"a.b": value`, all that the test's expectations depend on.
    wanted: Numbers that the file must have, such as `prep_type`.
  """
  found = [Golden(path).hyper for path in golden_paths(model)]
  found = [h for h in found if all(h.get(name) == value for name, value in wanted.items())]
  if not found:
    pytest.skip(f"no golden file of {model} with {wanted}")
  h = copy.deepcopy(found[0])
  for path, value in changes.items():
    *outer, last = path.split(".")
    inside = h
    for name in outer:
      inside = inside[name]
    assert last in inside or last == "channels", path
    inside[last] = value
  return h


def tree(make, args, rules):
  """Returns the shapes of the parameters by their published names."""
  init = hk.transform(lambda *a: make()(*a)).init
  shapes = jax.eval_shape(init, jax.random.key(0), *args)
  return {p.name: p.shape for p in translation.published_names(shapes, rules).values()}


def holds(found, expected):
  assert {name: found.get(name) for name in expected} == expected


def zeros(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


ENCODER = {
  "z_index_dim": 7, "num_z_channels": 24, "num_self_attend_heads": 3, "num_blocks": 2,
  "num_cross_attend_heads": 2, "cross_attend_widening_factor": 2, "self_attend_widening_factor": 3,
  "decoder_num_heads": 2, "qk_channels": None, "v_channels": None, "decoder_qk_channels": None,
  "decoder_v_channels": None, "encoder_use_query_residual": True, "decoder_use_query_residual": False,
  "sine_only": False, "concat_pos": True, "num_self_attends_per_block": 2,
  "cross_attention_shape_for_attn": "kv",
}  # fmt: skip


@pytest.mark.parametrize("width", ["q", "kv"])
def test_flow_with_other_numbers(width):
  changes = {
    "image_channels": 4,
    "patch_hidden_channels": 18,
    "num_bands": 3,
    "train_size": [8, 12],
  }
  more = {"cross_attention_shape_for_attn": width, "sine_only": True, "concat_pos": False}
  h = hyper("perceiver_io_flow", ENCODER | changes | more)
  config = published.flow_config(h)
  found = tree(
    lambda: perceiver_flow.FlowPerceiver(config),
    (zeros(1, 2, 8, 12, 4),),
    DEEPMIND["perceiver_flow"],
  )
  kv = 18 + 2 * 3
  qk = {"q": 24, "kv": kv}[width]
  e, d = "perceiver_encoder/~", "flow_decoder/~/basic_decoder"
  expected = {
    "image_preprocessor/patches_linear/w": (2 * 9 * 4, 18),
    f"{e}/trainable_position_encoding/pos_embs": (7, 24),
    f"{e}/cross_attention/attention/linear/w": (24, qk),
    f"{e}/cross_attention/attention/linear_1/w": (kv, qk),
    f"{e}/cross_attention/attention/linear_3/w": (qk, 24),
    f"{e}/cross_attention/mlp/linear/w": (24, 48),
    f"{e}/self_attention/mlp/linear/w": (24, 72),
    f"{d}/cross_attention/attention/linear/w": (kv, 24),
    f"{d}/cross_attention/attention/linear_3/w": (24, kv),
  }
  holds(found, expected)


def test_autoencoder_with_other_numbers():
  changes = {
    "image_channels": 2, "image_num_outputs": 5, "num_classes": 6, "num_frames": 6,
    "image_temporal_downsample": 2, "image_spatial_downsample": 8, "image_size": [16, 24],
    "audio_samples_per_frame": 24, "samples_per_patch": 8, "audio_num_bands": 2,
    "image_num_bands": 1, "preproc_min_padding_size": 3, "decoder_min_padding_size": 1,
    "label_query_channels": 30, "output_num_channels": 20, "decoder_qk_channels": 10,
    "decoder_v_channels": 14, "audio_max_resolution": [144], "image_max_resolution": [3, 2, 3],
  }  # fmt: skip
  h = hyper("perceiver_io_multimodal", ENCODER | changes)
  config = published.autoencoder_config(h)
  inputs = {"image": zeros(1, 6, 16, 24, 2), "audio": zeros(1, 144, 1), "label": zeros(1, 6)}
  rules = DEEPMIND["perceiver_autoencoder"]
  found = tree(lambda: perceiver_autoencoder.Autoencoder(config), (inputs,), rules)
  image, audio = 2 * 8 * 8 * 2 + 3 * 3, 8 + 5
  cross = "multimodal_decoder/~/basic_decoder/cross_attention/attention"
  expected = {
    "multimodal_preprocessor/image_padding/pos_embs": (1, 3),
    "multimodal_preprocessor/audio_padding/pos_embs": (1, image + 3 - audio),
    "multimodal_preprocessor/label_mask_token/pos_embs": (1, image + 3),
    "multimodal_decoder/~decoder_query/label_padding/pos_embs": (1, 1),
    "multimodal_decoder/~decoder_query/image_padding/pos_embs": (1, 31 - 9),
    f"{cross}/linear/w": (31, 10),
    f"{cross}/linear_2/w": (24, 14),
    f"{cross}/linear_3/w": (14, 31),
    "projection_postprocessor/linear/w": (20, 5),
    "audio_postprocessor/linear/w": (20, 8),
    "classification_postprocessor/linear/w": (20, 6),
  }
  holds(found, expected)


def test_classifier_with_other_numbers():
  changes = {"image_channels": 1, "num_classes": 4, "decoder_query_channels": 12, "num_bands": 2}
  more = {"num_cross_attend_heads": 1, "spatial_downsample": 1}
  h = hyper("perceiver_classifier", ENCODER | more | changes, prep_type="pixels")
  config = published.classifier_config(h, {})
  images = zeros(1, *h["image_size"], 1)
  rules = DEEPMIND["perceiver_classifier"]
  found = tree(lambda: perceiver_classifier.Classifier(config), (images,), rules)
  decoder = "classification_decoder/~/basic_decoder"
  expected = {
    "perceiver_encoder/~/cross_attention/attention/linear_1/w": (1 + 2 * 5, 1 + 2 * 5),
    f"{decoder}/~/trainable_position_encoding/pos_embs": (1, 12),
    f"{decoder}/output/w": (12, 4),
  }
  holds(found, expected)


@pytest.mark.parametrize("norm_first, model", [(True, "moog"), (False, "moog_repo")])
def test_moog_with_other_numbers(norm_first, model):
  predictor, corrector = (
    ("predictor_sa", "predictor_ca") if norm_first else ("predictor", "corrector")
  )
  norm = "state_layer_norm" if norm_first else "correction_layer_norm"
  changes = {
    "channels": 4, "height": 8, "width": 20, "state.num_tokens": 3, "state.token_size": 20,
    f"{predictor}.num_layers": 1, f"{predictor}.mlp_size": 12, f"{predictor}.qkv_size": 16,
    f"{predictor}.num_heads": 2, f"{corrector}.qkv_size": 18, f"{corrector}.num_heads": 3,
    "encoder.num_fourier_bases": 5, "encoder.update_type": "project_add", "encoder.hidden_size": 14,
    "decoder.num_fourier_bases": 6, "conv.features": [6, 10], "conv.strides": [[2, 2], [1, 1]],
    "conv.kernel_sizes": [[3, 3], [5, 5]],
  }  # fmt: skip
  h = hyper(model, changes)
  config = published.moog_config(h, norm_first=norm_first)
  added = h["decoder"].get("update_type") == "project_add"  # positions, instead of concatenated
  video, state, positions = zeros(2, 1, 8, 20, 4), zeros(1, 3, 20), zeros(160, 24)
  rules = moog_weights.backbone("x/", config)
  make = lambda: WholeMoog(config)  # noqa: E731
  found = tree(lambda: lambda v, s, p: make()(v, s, None, p), (video, state, positions), rules)
  expected = {
    "x/encoder/backbone/Conv_0/kernel": (3, 3, 4, 6),
    "x/encoder/backbone/Conv_1/kernel": (5, 5, 6, 10),
    "x/encoder/pos_embedding/dense_pe/kernel": (20, 10),
    "x/encoder/transformer/Dense_0/kernel": (10, 14),
    f"x/{predictor}/layer_0/MLP_in/kernel": (20, 12),
    f"x/{predictor}/layer_1/MLP_in/kernel": None,
    f"x/{corrector}/layer_0/cross_att/dense_query/kernel": (20, 3, 6),
    "x/decoder/recon/kernel": (20 if added else 20 + 24, 4),
    f"x/{norm}/scale": (20,),
  }
  holds(found, expected)


def test_clip_heads_with_fewer_channels():
  changes = {
    "frames": 6, "points.num_frames_per_query": 2, "points.num_classes": 6,
    "points.use_certainty": False, "points.num_params": 24, "points.num_heads": 4,
  }  # fmt: skip
  h = hyper("moog_readouts", changes)
  config = published.clip_config(h["points"], h["frames"])
  make = lambda: ClipReadout(config, name="points")  # noqa: E731
  args = (zeros(1, h["frames"], 5, 8), zeros(1, 2, 2))
  found = tree(make, args, moog_weights.clip_readout("points", "points_head", config))
  readout = "points_head/attention_readout"
  expected = {f"{readout}/Dense_2/kernel": (24, 6), f"{readout}/MLP_0/Dense_0/kernel": (24, 96)}
  holds(found, expected)


def test_rvm_with_other_numbers():
  changes = {
    "channels": 4, "height": 24, "width": 16, "patch_size": 4, "token_dim": 24,
    "core.num_feats": 12, "core.num_heads": 3, "decoder.emb_dim": 20, "decoder.num_feats": 16,
    "decoder.num_heads": 2, "decoder.mlp_dim": 28, "encoder.num_layers": 1, "encoder.num_heads": 3,
  }  # fmt: skip
  config = published.rvm_config(hyper("rvm", changes))
  frames, order = zeros(1, 1, 24, 16, 4), jax.ShapeDtypeStruct((1, 1, 24), jnp.int32)
  deltas = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  args = (frames, zeros(1, 25, 24), frames, order, deltas)
  found = tree(lambda: WholeRvm(config), args, rvm_weights.rules(config))
  expected = {
    "tokenizer/patch_embedding/Conv_0/kernel": (1, 4, 4, 4, 24),
    "rnn_core/transformer/xa_blocks_0/ca_attention/query/kernel": (24, 3, 4),
    "rnn_core/transformer/xa_blocks_0/attention/out/kernel": (3, 4, 24),
    "decoder_embedder/kernel": (24, 20),
    "decoder/xa_blocks_0/ca_attention/value/kernel": (20, 2, 8),
    "decoder/xa_blocks_0/mlp/dense_in/kernel": (20, 28),
    "detokenizer/Dense_0/kernel": (20, 4 * 4 * 4),
    "encoder/layers_1/mlp_norm/scale": None,
  }
  holds(found, expected)
