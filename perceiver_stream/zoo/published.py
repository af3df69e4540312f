"""Which model a published file belongs to: configs read off names and shapes."""

import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from perceiver_stream.models import (
  moog,
  perceiver_autoencoder,
  perceiver_classifier,
  perceiver_flow,
  rvm,
)
from perceiver_stream.models.perceiver_io import DecoderConfig, EncoderConfig, FourierConfig
from perceiver_stream.zoo import moog_weights, perceiver_io_weights, rvm_weights
from perceiver_stream.zoo.files import Flat
from perceiver_stream.zoo.translation import Rule


class Recognised(NamedTuple):
  """What a file turned out to be.

  Attributes:
    config: Of the model; what the file cannot tell is that of the published model.
    rules: How a model's parameters are called in the file, from its final config.
    ignore: Regular expression of names in the file that no model needs.
  """

  config: Any
  rules: Callable[[Any], Sequence[Rule]]
  ignore: str = ""


_CONV = "encoder/backbone/Conv_0/kernel"  # of MooG


def recognise(flat: Flat, source: str) -> Recognised:
  """Returns the model of a flat .npz file or a DeepMind pickle.

  Raises:
    ValueError: The names belong to no model that is known.
  """
  first = {name.split("/")[0] for name in flat}
  if "rnn_core" in first:
    return Recognised(rvm_config(flat), rvm_weights.rules)
  convs = [name for name in flat if name.endswith(_CONV)]
  if convs:
    prefix = convs[0].removesuffix(_CONV)
    return Recognised(
      moog_config(flat, prefix), lambda config: moog_weights.backbone(prefix, config)
    )
  deepmind = {
    "flow_decoder": perceiver_flow.Config(),
    "multimodal_decoder": perceiver_autoencoder.Config(),
  }
  for name, config in deepmind.items():
    if name in first:
      return _deepmind(config)
  if "classification_decoder" in first:
    return _deepmind(_deepmind_classifier(flat))
  raise ValueError(
    f"{source}: {len(flat)} arrays, the first {sorted(flat)[:3]}, belong to no known model; known "
    f"are MooG, RVM, and Perceiver flow, autoencoder and classifiers."
  )


def _deepmind(config: Any) -> Recognised:
  rules = perceiver_io_weights.DEEPMIND[_family(config)]
  return Recognised(config, lambda _: rules, perceiver_io_weights.IGNORED)


def _family(config: Any) -> str:
  return type(config).__module__.rsplit(".", 1)[-1]


def _deepmind_classifier(flat: Flat) -> perceiver_classifier.Config:
  if any("/conv2_d/" in name for name in flat):
    tokens = perceiver_classifier.LearnedPixels()
    return perceiver_classifier.Config(tokens=tokens, decoder=DecoderConfig())
  if any("/conv2_d_downsample/" in name for name in flat):
    return perceiver_classifier.Config(tokens=perceiver_classifier.ConvPixels())
  return perceiver_classifier.Config()


# --- MooG and RVM: nearly everything is in the shapes -----------------------------------------------


def _count(flat: Flat, pattern: str) -> int:
  return len({m[0] for m in map(re.compile(pattern).match, flat) if m})


def _moog_stack(flat: Flat, prefix: str) -> moog.StackConfig:
  layers = _count(flat, rf"{prefix}/layer_\d+/")
  block = f"{prefix}/layer_0"
  kind = "self_att" if f"{block}/self_att/dense_query/kernel" in flat else "cross_att"
  _, heads, width = flat[f"{block}/{kind}/dense_query/kernel"].shape
  return moog.StackConfig(
    num_layers=layers,
    qkv_dim=heads * width,
    num_heads=heads,
    mlp_dim=flat[f"{block}/MLP_in/kernel"].shape[1],
  )


def moog_config(flat: Flat, prefix: str) -> moog.Config:
  """Returns the config of a MooG file.

  Strides, number of latents, frame size and the state's scale are not in the file: those of the
  published models are taken.
  """
  e = f"{prefix}encoder"
  norm_first = f"{prefix}state_layer_norm/scale" in flat
  names = ("predictor_sa", "predictor_ca") if norm_first else ("predictor", "corrector")
  kernels = [
    flat[f"{e}/backbone/Conv_{i}/kernel"].shape
    for i in range(_count(flat, rf"{e}/backbone/Conv_\d+/kernel"))
  ]
  projection = flat.get(f"{e}/pos_embedding/dense_pe/kernel")
  tokens, hidden = flat[f"{e}/transformer/Dense_0/kernel"].shape
  features = kernels[-1][-1]
  position_dim = tokens - features if projection is None else projection.shape[0]
  predictor = _moog_stack(flat, f"{prefix}{names[0]}")
  latent_dim = flat[f"{prefix}{names[0]}/norm_encoder/scale"].shape[0]
  return moog.Config(
    norm_first=norm_first,
    latent_dim=latent_dim,
    encoder=moog.EncoderConfig(
      channels=tuple(k[-1] for k in kernels),
      kernels=tuple(k[:2] for k in kernels),
      strides=(2, 1, 1, 2, 1, 1) if norm_first else (1, 1, 1, 2, 1, 2),
      normalise=f"{e}/backbone/LayerNorm_0/scale" in flat,
      hidden_dim=hidden,
      num_octaves=position_dim // 4,
      add_positions=projection is not None,
    ),
    predictor=predictor,
    corrector=_moog_stack(flat, f"{prefix}{names[1]}"),
    decoder=_moog_decoder(flat, f"{prefix}decoder", latent_dim),
    use_loss_gradient=f"{prefix}state_grad_projector/kernel" in flat,
  )


def _moog_decoder(flat: Flat, prefix: str, latent_dim: int) -> moog.DecoderConfig | None:
  if f"{prefix}/recon/kernel" not in flat:
    return None
  projection = flat.get(f"{prefix}/pos_embedding/dense_pe/kernel")
  width = flat[f"{prefix}/recon/kernel"].shape[0]
  position_dim = width - latent_dim if projection is None else projection.shape[0]
  return moog.DecoderConfig(
    stack=_moog_stack(flat, f"{prefix}/transformer"),
    num_octaves=position_dim // 4,
    add_positions=projection is not None,
    use_self=f"{prefix}/transformer/layer_0/self_att/dense_query/kernel" in flat,
  )


def _rvm_layers(flat: Flat, block: str, query: str, *, dim: int | None = None) -> rvm.LayersConfig:
  return rvm.LayersConfig(
    num_layers=_count(flat, rf"{block}\d+/"),
    num_heads=flat[f"{block}0/{query}/query/kernel"].shape[1],
    mlp_dim=flat[f"{block}0/mlp/dense_in/kernel"].shape[1],
    dim=dim,
  )


def rvm_config(flat: Flat) -> rvm.Config:
  """Returns the config of an RVM file; frame size and position grid are the published ones."""
  _, patch, _, _, dim = flat["tokenizer/patch_embedding/Conv_0/kernel"].shape
  return rvm.Config(
    patch=patch,
    dim=dim,
    encoder=_rvm_layers(flat, "encoder/layers_", "attention"),
    core=_rvm_layers(flat, "rnn_core/transformer/xa_blocks_", "ca_attention"),
    decoder=_rvm_layers(
      flat, "decoder/xa_blocks_", "ca_attention", dim=flat["decoder_embedder/bias"].shape[0]
    ),
  )


# --- Hugging Face: the rest is in config.json -------------------------------------------------------


def recognise_hugging_face(flat: Flat, path: pathlib.Path) -> Recognised:
  """Returns the model of a Hugging Face file; `path` is its config.json.

  Raises:
    ValueError: It is a model that is not known here.
  """
  h = json.loads(path.read_text())
  kind = (h.get("architectures") or ["nothing"])[0]
  if kind not in _HF_CONFIGS:
    raise ValueError(f"{path}: architecture {kind} is not one of {sorted(_HF_CONFIGS)}.")
  config = _HF_CONFIGS[kind](h, flat)
  rules = perceiver_io_weights.HUGGING_FACE[_family(config)]
  return Recognised(config, lambda _: rules, perceiver_io_weights.HF_IGNORED)


def _hf_encoder(h: Mapping[str, Any]) -> EncoderConfig:
  return EncoderConfig(
    num_latents=h["num_latents"],
    latent_dim=h["d_latents"],
    num_blocks=h["num_blocks"],
    num_layers=h["num_self_attends_per_block"],
    num_cross_heads=h["num_cross_attention_heads"],
    num_self_heads=h["num_self_attention_heads"],
    cross_mlp_factor=h["cross_attention_widening_factor"],
    self_mlp_factor=h["self_attention_widening_factor"],
    qk_dim=h.get("qk_channels"),
    v_dim=h.get("v_channels"),
    qk_from_tokens=h["cross_attention_shape_for_attention"] == "kv",
    use_query_residual=h["use_query_residual"],
  )


def _hf_flow(h: Mapping[str, Any], flat: Flat) -> perceiver_flow.Config:
  del flat
  height, width = h["train_size"]
  return perceiver_flow.Config(height=height, width=width, encoder=_hf_encoder(h))


def _hf_autoencoder(h: Mapping[str, Any], flat: Flat) -> perceiver_autoencoder.Config:
  _, frames, height, width = h["output_shape"]
  samples, side = frames * h["audio_samples_per_frame"], h["image_size"]
  return perceiver_autoencoder.Config(
    num_frames=frames,
    height=height,
    width=width,
    samples=samples,
    samples_per_patch=h["samples_per_patch"],
    num_classes=flat[f"perceiver.{_HF_LABEL}.weight"].shape[0],
    audio_positions=FourierConfig(num_bands=192, max_resolution=(samples,)),
    image_positions=FourierConfig(num_bands=32, max_resolution=(frames, side, side)),
    label_query_dim=h.get("_label_trainable_num_channels", 1024),
    decoded_dim=h["output_num_channels"],
    encoder=_hf_encoder(h),
  )


_HF_LABEL = "output_postprocessor.modalities.label.classifier"


def _hf_classifier(tokens: Callable[[], Any], side: int | None) -> Callable[..., Any]:
  def config(h: Mapping[str, Any], flat: Flat) -> perceiver_classifier.Config:
    size = h["image_size"] if side is None else side
    return perceiver_classifier.Config(
      height=size,
      width=size,
      num_classes=flat["perceiver.decoder.decoder.final_layer.weight"].shape[0],
      tokens=tokens(),
      encoder=_hf_encoder(h),
      decoder=DecoderConfig(use_query_residual=True),
      query_dim=h["d_latents"],
    )

  return config


_HF_CONFIGS = {
  "PerceiverForOpticalFlow": _hf_flow,
  "PerceiverForMultimodalAutoencoding": _hf_autoencoder,
  "PerceiverForImageClassificationFourier": _hf_classifier(
    lambda: perceiver_classifier.FourierPixels(positions=FourierConfig(max_resolution=(224, 224))),
    224,
  ),
  "PerceiverForImageClassificationLearned": _hf_classifier(
    perceiver_classifier.LearnedPixels, None
  ),
  "PerceiverForImageClassificationConvProcessing": _hf_classifier(
    lambda: perceiver_classifier.ConvPixels(positions=FourierConfig(max_resolution=(56, 56))), 224
  ),
}
