"""Variants of the Perceiver IO autoencoder: the published size, and smaller ones."""

import dataclasses
from collections.abc import Mapping

from perceiver_stream.models.family import Card, Family
from perceiver_stream.models.perceiver_io.autoencoder import Config
from perceiver_stream.models.perceiver_io.halves import EncoderConfig, FourierConfig
from perceiver_stream.models.perceiver_io.model import build_autoencoder as build
from perceiver_stream.models.perceiver_io.weights import DEEPMIND, detect_autoencoder
from perceiver_stream.types import ModalitySpec


def _small(
  frames: int, side: int, bands: int, latents: int, dim: int, layers: int, heads: int
) -> Config:
  return Config(
    num_frames=frames,
    height=side,
    width=side,
    samples=frames * 640,
    audio_gain=8.0,
    num_classes=10,
    audio_positions=FourierConfig(num_bands=2 * bands, as_released=False),
    image_positions=FourierConfig(num_bands=bands, as_released=False),
    label_query_dim=dim,
    decoded_dim=dim,
    encoder=EncoderConfig(
      num_latents=latents, latent_dim=dim, num_layers=layers, num_self_heads=heads
    ),
  )


VARIANTS = {
  "kinetics": Config,
  "tiny": lambda: _small(8, 64, 16, 128, 128, 4, 4),
  "nano": lambda: _small(2, 16, 4, 8, 16, 1, 2),
}

RELEASED = {"kinetics": "the video autoencoding .pystate"}

CARD = Card(
  summary="Autoencodes video, sound and a class label of a clip through a latent array.",
  paper="Jaegle et al. 2021, Perceiver IO, 2107.14795, section 4.3",
  code="google-deepmind/deepmind-research, perceiver/, video autoencoding colab",
  inputs="pixels and audio at one tick rate (published: 224×224 at 25 Hz, 48 kHz); the state keeps "
  "the last 16 ticks",
  weights="video autoencoding .pystate of the release; Hugging Face "
  "PerceiverForMultimodalAutoencoding",
  limits="Encoder positions include both ends, decoder positions do not, as in the released code.",
)


def fitted(config: Config, specs: Mapping[str, ModalitySpec]) -> Config:
  """Returns `config` for the frames and the sound of a stream.

  Raises:
    ValueError: The stream lacks one of them.
  """
  if not {"pixels", "audio"} <= set(specs):
    raise ValueError(
      f"perceiver_autoencoder: the stream has {sorted(specs)}, the model reads pixels and audio."
    )
  height, width = specs["pixels"].shape[:2]
  samples = config.num_frames * specs["audio"].shape[0]
  return dataclasses.replace(config, height=height, width=width, samples=samples)


FAMILY = Family(
  name="perceiver_autoencoder",
  config=Config,
  build=build,
  fit=fitted,
  variants=VARIANTS,
  card=CARD,
  released=RELEASED,
  equals_released=("kinetics",),
  detect=detect_autoencoder,
  rules=lambda config: DEEPMIND["perceiver_autoencoder"],
)
