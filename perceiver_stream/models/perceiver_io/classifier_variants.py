"""Variants of the Perceiver image classifiers: the three published ones, and a small one."""

from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.perceiver_io.classifier import (
  Config,
  ConvPixels,
  FourierPixels,
  LearnedPixels,
)
from perceiver_stream.models.perceiver_io.halves import DecoderConfig, EncoderConfig, FourierConfig
from perceiver_stream.models.perceiver_io.model import build_classifier as build
from perceiver_stream.models.perceiver_io.weights import DEEPMIND, detect_classifier


def _nano() -> Config:
  return Config(
    height=16,
    width=16,
    num_classes=5,
    tokens=FourierPixels(positions=FourierConfig(num_bands=4, as_released=False)),
    encoder=EncoderConfig(
      num_latents=8, latent_dim=16, num_blocks=2, num_layers=1, num_self_heads=2
    ),
    query_dim=16,
  )


VARIANTS = {
  "fourier": Config,
  "learned": lambda: Config(tokens=LearnedPixels(), decoder=DecoderConfig()),
  "conv": lambda: Config(tokens=ConvPixels()),
  "nano": _nano,
}

RELEASED = {
  "fourier": "the ImageNet .pystate with Fourier positions",
  "learned": "the ImageNet .pystate with learned positions",
  "conv": "the ImageNet .pystate with a convolution",
}

CARD = Card(
  summary="ImageNet classes of an image, from raw pixels, learned positions or convolutions.",
  paper="Jaegle et al. 2021, Perceiver, 2103.03206, and Perceiver IO, 2107.14795",
  code="google-deepmind/deepmind-research, perceiver/, ImageNet colab",
  inputs="pixels, 224×224 centre crops; normalised inside",
  weights="ImageNet .pystate files of the release; Hugging Face "
  "PerceiverForImageClassification{Fourier,Learned,ConvProcessing}",
  limits="The Hugging Face convolutional model differs from the released one: other padding and "
  "55×55 tokens. Its weights load, but outputs differ. Batch statistics are not trained here.",
)


FAMILY = Family(
  name="perceiver_classifier",
  config=Config,
  build=build,
  fit=fit_frames("perceiver_classifier"),
  variants=VARIANTS,
  card=CARD,
  released=RELEASED,
  equals_released=("fourier",),
  detect=detect_classifier,
  rules=lambda config: DEEPMIND["perceiver_classifier"],
)
