"""Which model a published file belongs to: configs read off names and shapes."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from perceiver_stream.files.array_files import Flat
from perceiver_stream.models import (
  moog,
  perceiver_autoencoder,
  perceiver_classifier,
  perceiver_flow,
  rvm,
)
from perceiver_stream.models.perceiver_io import DecoderConfig
from perceiver_stream.zoo import moog_weights, perceiver_io_weights, rvm_weights
from perceiver_stream.zoo.translation import Rule, Shape


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


_CONV = re.compile(r"(.*)encoder/backbone/Conv_\d+/kernel")  # of MooG


def recognise(flat: Flat, source: str) -> Recognised:
  """Returns the model of a flat .npz file or a DeepMind pickle.

  Raises:
    ValueError: The names belong to no model that is known.
  """
  first = {name.split("/")[0] for name in flat}
  if "rnn_core" in first:
    return Recognised(rvm_config(flat), rvm_weights.rules)
  if conv := next(filter(None, map(_CONV.fullmatch, sorted(flat))), None):
    prefix = conv[1]
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
  rules = perceiver_io_weights.DEEPMIND[family_of(config)]
  return Recognised(config, lambda _: rules, perceiver_io_weights.IGNORED)


def family_of(config: Any) -> str:
  """Returns the name of the family that a config belongs to."""
  return type(config).__module__.rsplit(".", 1)[-1]


def _deepmind_classifier(flat: Flat) -> perceiver_classifier.Config:
  if any("/conv2_d/" in name for name in flat):
    tokens = perceiver_classifier.LearnedPixels()
    return perceiver_classifier.Config(tokens=tokens, decoder=DecoderConfig())
  if any("/conv2_d_downsample/" in name for name in flat):
    return perceiver_classifier.Config(tokens=perceiver_classifier.ConvPixels())
  return perceiver_classifier.Config()


# --- MooG and RVM: nearly everything is in the shapes -----------------------------------------------


def _shape(flat: Flat, pattern: str, default: Shape) -> Shape:
  """Returns the shape of the first array of that name and rank.

  If a file lacks it, the published size stands in, so that reading goes on to list all that is
  missing.
  """
  for name in sorted(flat):
    if re.fullmatch(pattern, name) and len(flat[name].shape) == len(default):
      return tuple(flat[name].shape)
  return default


def _count(flat: Flat, pattern: str) -> int:
  """Returns how many there are, from the highest number: one in the middle may be missing."""
  return 1 + max((int(m[1]) for m in map(re.compile(pattern).match, flat) if m), default=-1)


def _moog_stack(flat: Flat, prefix: str, published: moog.StackConfig) -> moog.StackConfig:
  block, p = rf"{prefix}/layer_\d+", published
  heads = (0, p.num_heads, p.qkv_dim // p.num_heads)
  _, heads, width = _shape(flat, f"{block}/(self|cross)_att/dense_(query|key|value)/kernel", heads)
  return moog.StackConfig(
    num_layers=_count(flat, rf"{prefix}/layer_(\d+)/") or p.num_layers,
    qkv_dim=heads * width,
    num_heads=heads,
    mlp_dim=_shape(flat, f"{block}/MLP_in/kernel", (0, p.mlp_dim))[1],
  )


def moog_config(flat: Flat, prefix: str) -> moog.Config:
  """Returns the config of a MooG file.

  Strides, number of latents, frame size and the state's scale are not in the file: those of the
  published models are taken.
  """
  norm_first = any(name.startswith(f"{prefix}predictor_sa/") for name in flat)
  names = ("predictor_sa", "predictor_ca") if norm_first else ("predictor", "corrector")
  published = moog.Config()
  norms = rf"{prefix}({names[0]}|{names[1]})/(norm_encoder|layer_\d+/norm_\w+)/scale"
  latent_dim = _shape(flat, norms, (published.latent_dim,))[0]
  predictor, corrector = (
    _moog_stack(flat, f"{prefix}{name}", sizes)
    for name, sizes in zip(names, (published.predictor, published.corrector), strict=True)
  )
  return moog.Config(
    channels=_shape(flat, f"{prefix}encoder/backbone/Conv_0/kernel", (3, 3, 3, 0))[2],
    norm_first=norm_first,
    latent_dim=latent_dim,
    encoder=_moog_encoder(flat, f"{prefix}encoder", norm_first, published.encoder),
    predictor=predictor,
    corrector=corrector,
    decoder=_moog_decoder(flat, f"{prefix}decoder", latent_dim),
    use_loss_gradient=any(n.startswith(f"{prefix}state_grad_projector/") for n in flat),
  )


def _moog_encoder(
  flat: Flat, e: str, norm_first: bool, published: moog.EncoderConfig
) -> moog.EncoderConfig:
  biases = [
    _shape(flat, rf"{e}/backbone/Conv_{i}/bias", (channels,))
    for i, channels in enumerate(published.channels)
  ]
  kernels = [
    _shape(flat, rf"{e}/backbone/Conv_{i}/kernel", (3, 3, 0, *biases[min(i, len(biases) - 1)]))
    for i in range(_count(flat, rf"{e}/backbone/Conv_(\d+)/"))
  ]
  tokens, hidden = _shape(flat, f"{e}/transformer/Dense_0/kernel", (0, published.hidden_dim))
  features = kernels[-1][-1]
  add = any(name.startswith(f"{e}/pos_embedding/") for name in flat)
  concatenated = (max(tokens - features, 0) or 4 * published.num_octaves,)
  positions = (
    _shape(flat, f"{e}/pos_embedding/dense_pe/kernel", (80, features)) if add else concatenated
  )
  strides = (2, 1, 1, 2, 1, 1) if norm_first else (1, 1, 1, 2, 1, 2)
  return moog.EncoderConfig(
    channels=tuple(k[-1] for k in kernels),
    kernels=tuple(k[:2] for k in kernels),
    strides=(strides + (1,) * len(kernels))[: len(kernels)],
    hidden_dim=hidden,
    num_octaves=positions[0] // 4,
    add_positions=add,
  )


def _moog_decoder(flat: Flat, prefix: str, latent_dim: int) -> moog.DecoderConfig | None:
  if not any(name.startswith(f"{prefix}/") for name in flat):
    return None
  published = moog.DecoderConfig()
  add = any(name.startswith(f"{prefix}/pos_embedding/") for name in flat)
  width = _shape(flat, f"{prefix}/recon/kernel", (latent_dim + 64, 3))[0]
  projection = _shape(flat, f"{prefix}/pos_embedding/dense_pe/kernel", (64, width))
  return moog.DecoderConfig(
    stack=_moog_stack(flat, f"{prefix}/transformer", published.stack),
    num_octaves=max(projection[0] if add else width - latent_dim, 4) // 4,
    add_positions=add,
    use_self=any(re.match(rf"{prefix}/transformer/layer_\d+/self_att/", name) for name in flat),
  )


def _rvm_layers(
  flat: Flat, block: str, query: str, published: rvm.LayersConfig
) -> rvm.LayersConfig:
  kernel = (0, published.num_heads, 0)
  return rvm.LayersConfig(
    num_layers=_count(flat, rf"{block}(\d+)/") or published.num_layers,
    num_heads=_shape(flat, rf"{block}\d+/{query}/(query|key|value)/kernel", kernel)[1],
    mlp_dim=_shape(flat, rf"{block}\d+/mlp/dense_in/kernel", (0, published.mlp_dim))[1],
  )


def rvm_config(flat: Flat) -> rvm.Config:
  """Returns the config of an RVM file; frame size and position grid are the published ones."""
  published = rvm.Config()
  dim = _shape(flat, "cls_token|encoder/LayerNorm_0/scale", (published.dim,))[-1]
  patches = _shape(flat, "tokenizer/patch_embedding/Conv_0/kernel", (1, 16, 16, 3, dim))
  decoder = _rvm_layers(flat, "decoder/xa_blocks_", "ca_attention", published.decoder)
  decoder.dim = _shape(flat, "decoder_embedder/bias", (published.decoder.dim or 0,))[0]
  return rvm.Config(
    channels=patches[3],
    patch=patches[1],
    dim=patches[-1],
    encoder=_rvm_layers(flat, "encoder/layers_", "attention", published.encoder),
    core=_rvm_layers(flat, "rnn_core/transformer/xa_blocks_", "ca_attention", published.core),
    decoder=decoder,
  )
