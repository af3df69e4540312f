"""Published weights of the Perceivers: parameter names of DeepMind and of Hugging Face."""

from typing import Any

from perceiver_stream.models.mapping import Detected, Flat, Rule
from perceiver_stream.models.perceiver_io import autoencoder, classifier, flow
from perceiver_stream.models.perceiver_io.halves import DecoderConfig

# Parts of a block: ours, DeepMind's, Hugging Face's in cross- and in self-attention.
_ATTENTION = {"query": "linear", "key": "linear_1", "value": "linear_2", "output": "linear_3"}
_MLP = {"hidden": "linear", "output": "linear_1"}
_CROSS_NORMS = {
  "query_norm": "layer_norm",
  "input_norm": "layer_norm_1",
  "mlp_norm": "layer_norm_2",
}
_SELF_NORMS = {"attention_norm": "layer_norm", "mlp_norm": "layer_norm_1"}


def _block(ours: str, theirs: str, norms: dict[str, str]) -> list[Rule]:
  leaf = "/(w|b|scale|offset)"
  group = rf"\{ours.count('(') + 1}"
  tables = {"": norms, "attention/": _ATTENTION, "mlp/": _MLP}
  return [
    Rule(f".*/{ours}/{part}{a}{leaf}", f"{theirs}/{part}{b}/{group}")
    for part, table in tables.items()
    for a, b in table.items()
  ]


def _core(encoder: str, decoder: str) -> list[Rule]:
  """Returns the rules of encoder and decoder; models differ in the first part of the names only."""
  return [
    Rule(".*/encoder/latents/pos_embs", f"{encoder}/~/trainable_position_encoding/pos_embs"),
    *_block("encoder/cross", f"{encoder}/~/cross_attention", _CROSS_NORMS),
    *_block("encoder/self_0", f"{encoder}/~/self_attention", _SELF_NORMS),
    *_block(r"encoder/self_(\d+)", rf"{encoder}/~/self_attention_\1", _SELF_NORMS),
    *_block("decoder/cross", f"{decoder}/~/basic_decoder/cross_attention", _CROSS_NORMS),
    Rule(".*/decoder/output/(w|b)", rf"{decoder}/~/basic_decoder/output/\1"),
  ]


_QUERY = "classification_decoder/~/basic_decoder/~/trainable_position_encoding/pos_embs"
_PREPROCESSOR = "image_preprocessor/~"
_DOWNSAMPLE = f"{_PREPROCESSOR}/conv2_d_downsample/~"
_BUILD = "image_preprocessor/~_build_network_inputs"


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
  return (1, 1, 1, *shape)


DEEPMIND = {
  "perceiver_flow": [
    *_core("perceiver_encoder", "flow_decoder"),
    Rule(".*/patches/(w|b)", r"image_preprocessor/patches_linear/\1"),
  ],
  "perceiver_autoencoder": [
    *_core("encoder", "multimodal_decoder"),
    Rule(".*/label_query/pos_embs", _QUERY),
    Rule(
      r".*/(\w+)_query_padding/pos_embs", r"multimodal_decoder/~decoder_query/\1_padding/pos_embs"
    ),
    Rule(r".*/(\w+)_padding/pos_embs", r"multimodal_preprocessor/\1_padding/pos_embs"),
    Rule(r".*/(\w+)_mask/pos_embs", r"multimodal_preprocessor/\1_mask_token/pos_embs"),
    Rule(".*/audio_output/(w|b)", r"audio_postprocessor/linear/\1"),
    Rule(".*/image_output/(w|b)", r"projection_postprocessor/linear/\1"),
    Rule(".*/label_output/(w|b)", r"classification_postprocessor/linear/\1"),
  ],
  "perceiver_classifier": [
    *_core("perceiver_encoder", "classification_decoder"),
    Rule(".*/query/pos_embs", _QUERY),
    Rule(".*/conv1x1/(w|b)", rf"{_PREPROCESSOR}/conv2_d/\1"),
    Rule(".*/conv/w", f"{_DOWNSAMPLE}/conv/w"),
    Rule(".*/norm/(scale|offset)", rf"{_DOWNSAMPLE}/batchnorm/\1", _channels),
    Rule(".*/norm/mean", f"{_DOWNSAMPLE}/batchnorm/~/mean_ema/average", _channels),
    Rule(".*/norm/variance", f"{_DOWNSAMPLE}/batchnorm/~/var_ema/average", _channels),
    Rule(".*/positions/pos_embs", f"{_BUILD}/trainable_position_encoding/pos_embs"),
    Rule(".*/position_projection/(w|b)", rf"{_BUILD}/position_encoding_projector/linear/\1"),
  ],
}

IGNORED = r".*_ema/(hidden|counter)"  # training statistics in the file of the conv classifier


# --- Hugging Face ---------------------------------------------------------------------------------

_HF_ATTENTION = {
  "query": "attention.self.query",
  "key": "attention.self.key",
  "value": "attention.self.value",
  "output": "attention.output.dense",
}
_HF_MLP = {"hidden": "mlp.dense1", "output": "mlp.dense2"}
_HF_CROSS_NORMS = {
  "query_norm": "attention.self.layernorm1",
  "input_norm": "attention.self.layernorm2",
  "mlp_norm": "layernorm",
}
_HF_SELF_NORMS = {"attention_norm": "attention.self.layernorm1", "mlp_norm": "layernorm"}
_FLIPPED, _REVERSED = (1, 0), (3, 2, 1, 0)


def _hf_dense(ours: str, theirs: str) -> list[Rule]:
  return [
    Rule(f".*/{ours}/w", f"perceiver.{theirs}.weight", axes=_FLIPPED),
    Rule(f".*/{ours}/b", f"perceiver.{theirs}.bias"),
  ]


def _hf_norm(ours: str, theirs: str) -> list[Rule]:
  return [
    Rule(f".*/{ours}/scale", f"perceiver.{theirs}.weight"),
    Rule(f".*/{ours}/offset", f"perceiver.{theirs}.bias"),
  ]


def _hf_block(ours: str, theirs: str, norms: dict[str, str]) -> list[Rule]:
  rules = [r for a, b in norms.items() for r in _hf_norm(f"{ours}/{a}", f"{theirs}.{b}")]
  for part, table in (("attention", _HF_ATTENTION), ("mlp", _HF_MLP)):
    for a, b in table.items():
      rules += _hf_dense(f"{ours}/{part}/{a}", f"{theirs}.{b}")
  return rules


_HF_CORE = [
  Rule(".*/encoder/latents/pos_embs", "perceiver.embeddings.latents"),
  *_hf_block("encoder/cross", "encoder.cross_attention", _HF_CROSS_NORMS),
  *_hf_block(r"encoder/self_(\d+)", r"encoder.self_attends.\1", _HF_SELF_NORMS),
  *_hf_block("decoder/cross", "decoder.decoder.decoding_cross_attention", _HF_CROSS_NORMS),
  *_hf_dense("decoder/output", "decoder.decoder.final_layer"),
]
_IN, _OUT = "perceiver.input_preprocessor", "output_postprocessor.modalities"
_HF_QUERY = "decoder.output_position_encodings.position_embeddings"

HUGGING_FACE = {
  "perceiver_flow": [*_HF_CORE, *_hf_dense("patches", "input_preprocessor.conv_after_patches")],
  "perceiver_autoencoder": [
    *_HF_CORE,
    Rule(".*/label_query/pos_embs", f"perceiver.decoder.modalities.label.{_HF_QUERY}"),
    Rule(r".*/(\w+)_query_padding/pos_embs", r"perceiver.decoder.padding.\1"),
    Rule(r".*/(\w+)_padding/pos_embs", rf"{_IN}.padding.\1"),
    Rule(r".*/(\w+)_mask/pos_embs", rf"{_IN}.mask.\1"),
    *[
      rule
      for name in ("audio", "image", "label")
      for rule in _hf_dense(f"{name}_output", f"{_OUT}.{name}.classifier")
    ],
  ],
  "perceiver_classifier": [
    *_HF_CORE,
    Rule(".*/query/pos_embs", f"perceiver.decoder.{_HF_QUERY}"),
    # Converted files have kernels with all axes reversed, rows and columns included.
    Rule(".*/conv1x1/w", f"{_IN}.convnet_1x1.weight", axes=_REVERSED),
    Rule(".*/conv1x1/b", f"{_IN}.convnet_1x1.bias"),
    Rule(".*/positions/pos_embs", f"{_IN}.position_embeddings.position_embeddings"),
    *_hf_dense("position_projection", "input_preprocessor.positions_projection"),
    Rule(".*/conv/w", f"{_IN}.convnet.conv.weight", axes=_REVERSED),
    *_hf_norm("norm", "input_preprocessor.convnet.batchnorm"),
    Rule(".*/norm/mean", f"{_IN}.convnet.batchnorm.running_mean"),
    Rule(".*/norm/variance", f"{_IN}.convnet.batchnorm.running_var"),
  ],
}
HF_IGNORED = r".*\.num_batches_tracked"


# --- detection of DeepMind's files ---


def detect_flow(flat: Flat) -> Detected | None:
  """Returns the flow model if the file has its names, else None."""
  return _deepmind("perceiver_flow", flow.Config()) if _has(flat, "flow_decoder") else None


def detect_autoencoder(flat: Flat) -> Detected | None:
  """Returns the video autoencoder if the file has its names, else None."""
  name = "perceiver_autoencoder"
  return _deepmind(name, autoencoder.Config()) if _has(flat, "multimodal_decoder") else None


def detect_classifier(flat: Flat) -> Detected | None:
  """Returns the image classifier if the file has its names, else None; they also set its tokens."""
  if not _has(flat, "classification_decoder"):
    return None
  return _deepmind("perceiver_classifier", _deepmind_classifier(flat))


def _has(flat: Flat, module: str) -> bool:
  return any(name.startswith(f"{module}/") for name in flat)


def _deepmind(family: str, config: Any) -> Detected:
  return Detected(config, lambda _: DEEPMIND[family], IGNORED)


def _deepmind_classifier(flat: Flat) -> classifier.Config:
  if any("/conv2_d/" in name for name in flat):
    tokens = classifier.LearnedPixels()
    return classifier.Config(tokens=tokens, decoder=DecoderConfig())
  if any("/conv2_d_downsample/" in name for name in flat):
    return classifier.Config(tokens=classifier.ConvPixels())
  return classifier.Config()
