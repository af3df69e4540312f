"""Detection of Hugging Face Perceivers: sizes from config.json, everything else from shapes."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from perceiver_stream import zoo
from perceiver_stream.files import codec, limits
from perceiver_stream.files.array_files import Flat
from perceiver_stream.models.mapping import Detected
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.perceiver_io import weights as perceiver_io_weights
from perceiver_stream.models.perceiver_io.halves import DecoderConfig, EncoderConfig, FourierConfig

_SHAPE = "cross_attention_shape_for_attention"
_DECODER_QUERY = "perceiver.decoder.decoder.decoding_cross_attention.attention.self.query.weight"

# Hugging Face's defaults for fields that a config.json lacks.
_DEFAULTS: dict[str, Any] = {
  "num_latents": 256, "d_latents": 1280, "num_blocks": 1, "num_self_attends_per_block": 26,
  "num_self_attention_heads": 8, "num_cross_attention_heads": 8, "use_query_residual": True,
  "qk_channels": None, "v_channels": None, _SHAPE: "kv",
  "self_attention_widening_factor": 1, "cross_attention_widening_factor": 1,
  "image_size": 56, "train_size": (368, 496), "num_frames": 16, "audio_samples_per_frame": 1920,
  "samples_per_patch": 16, "output_shape": (1, 16, 224, 224), "output_num_channels": 512,
  "_label_trainable_num_channels": 1024,
}  # fmt: skip


def recognise_hugging_face(flat: Flat, path: pathlib.Path) -> Detected:
  """Returns the model of a Hugging Face file; `path` is its config.json.

  Raises:
    ValueError: The model is unsupported.
  """
  h = _DEFAULTS | _read(path)
  kinds = h.get("architectures")
  kind = str(kinds[0]) if isinstance(kinds, list) and kinds else "nothing"
  if kind not in _CONFIGS:
    raise ValueError(f"{path}: architecture {kind} is not one of {sorted(_CONFIGS)}.")
  if h[_SHAPE] not in ("kv", "q"):
    raise ValueError(f"{path}: {_SHAPE} is {h[_SHAPE]!r}, expected 'kv' or 'q'.")
  try:
    config = _CONFIGS[kind](h, flat)
  except (TypeError, ValueError, LookupError) as error:
    raise ValueError(f"{path}: its sizes are not those of a {kind} ({error}).") from error
  codec.check(config, str(path))
  rules = perceiver_io_weights.HUGGING_FACE[zoo.family(config).name]
  return Detected(config, lambda _: rules, perceiver_io_weights.HF_IGNORED)


def _read(path: pathlib.Path) -> dict[str, Any]:
  read = limits.read_json(path)
  if not isinstance(read, dict):
    raise ValueError(f"{path}: a {type(read).__name__}, expected the fields of a config.")
  return read


def _num_rows(flat: Flat, name: str, published: int) -> int:
  """Returns the number of rows of a weight; the published number if the file lacks it."""
  return flat[name].shape[0] if name in flat and flat[name].ndim else published


def _encoder(h: Mapping[str, Any]) -> EncoderConfig:
  return EncoderConfig(
    num_latents=h["num_latents"],
    latent_dim=h["d_latents"],
    num_blocks=h["num_blocks"],
    num_layers=h["num_self_attends_per_block"],
    num_cross_heads=h["num_cross_attention_heads"],
    num_self_heads=h["num_self_attention_heads"],
    cross_mlp_factor=h["cross_attention_widening_factor"],
    self_mlp_factor=h["self_attention_widening_factor"],
    qk_dim=h["qk_channels"],
    v_dim=h["v_channels"],
    qk_from_tokens=h[_SHAPE] == "kv",
    use_query_residual=h["use_query_residual"],
  )


def _decoder(h: Mapping[str, Any], flat: Flat, *, residual: bool = False) -> DecoderConfig:
  """Returns the decoder config; config.json sets if its attention is as wide as the queries."""
  qk_dim = None if h[_SHAPE] == "kv" else _num_rows(flat, _DECODER_QUERY, h["d_latents"])
  return DecoderConfig(qk_dim=qk_dim, use_query_residual=residual)


def _flow(h: Mapping[str, Any], flat: Flat) -> perceiver_flow.Config:
  height, width = h["train_size"]
  return perceiver_flow.Config(
    height=height, width=width, encoder=_encoder(h), decoder=_decoder(h, flat)
  )


def _autoencoder(h: Mapping[str, Any], flat: Flat) -> perceiver_autoencoder.Config:
  _, frames, height, width = h["output_shape"]
  samples, side = frames * h["audio_samples_per_frame"], h["image_size"]
  return perceiver_autoencoder.Config(
    num_frames=frames,
    height=height,
    width=width,
    samples=samples,
    samples_per_patch=h["samples_per_patch"],
    num_classes=_num_rows(flat, f"perceiver.{_LABEL}.weight", 700),
    audio_positions=FourierConfig(num_bands=192, max_resolution=(samples,)),
    image_positions=FourierConfig(num_bands=32, max_resolution=(frames, side, side)),
    label_query_dim=h["_label_trainable_num_channels"],
    decoded_dim=h["output_num_channels"],
    encoder=_encoder(h),
    decoder=_decoder(h, flat),
  )


_LABEL = "output_postprocessor.modalities.label.classifier"


def _classifier(tokens: Callable[[], Any], side: int | None) -> Callable[..., Any]:
  def config(h: Mapping[str, Any], flat: Flat) -> perceiver_classifier.Config:
    size = h["image_size"] if side is None else side
    return perceiver_classifier.Config(
      height=size,
      width=size,
      num_classes=_num_rows(flat, "perceiver.decoder.decoder.final_layer.weight", 1000),
      tokens=tokens(),
      encoder=_encoder(h),
      decoder=_decoder(h, flat, residual=True),
      query_dim=h["d_latents"],
    )

  return config


_CONFIGS = {
  "PerceiverForOpticalFlow": _flow,
  "PerceiverForMultimodalAutoencoding": _autoencoder,
  "PerceiverForImageClassificationFourier": _classifier(
    lambda: perceiver_classifier.FourierPixels(positions=FourierConfig(max_resolution=(224, 224))),
    224,
  ),
  "PerceiverForImageClassificationLearned": _classifier(perceiver_classifier.LearnedPixels, None),
  "PerceiverForImageClassificationConvProcessing": _classifier(
    lambda: perceiver_classifier.ConvPixels(positions=FourierConfig(max_resolution=(56, 56))), 224
  ),
}
