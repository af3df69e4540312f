"""Variants of Perceiver IO for optical flow: the published size, and smaller ones."""

from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.perceiver_io.flow import Config
from perceiver_stream.models.perceiver_io.halves import EncoderConfig, FourierConfig
from perceiver_stream.models.perceiver_io.model import build_flow as build
from perceiver_stream.models.perceiver_io.weights import DEEPMIND, detect_flow


def _small(side: int, bands: int, latents: int, dim: int, layers: int, heads: int) -> Config:
  return Config(
    height=side,
    width=side,
    patch_dim=dim // 2,
    positions=FourierConfig(num_bands=bands, as_released=False),
    encoder=EncoderConfig(
      num_latents=latents, latent_dim=dim, num_layers=layers, num_self_heads=heads
    ),
  )


VARIANTS = {
  "published": Config,
  "tiny": lambda: _small(64, 32, 128, 128, 4, 4),
  "nano": lambda: _small(16, 4, 8, 16, 1, 2),
}

RELEASED = {"published": "the optical flow .pystate"}

CARD = Card(
  summary="Optical flow between two frames, with one query per pixel of the first.",
  paper="Jaegle et al. 2021, Perceiver IO, 2107.14795, section 4.2",
  code="google-deepmind/deepmind-research, perceiver/, optical flow colab",
  inputs="pixels of the config's size, two ticks; larger images in tiles (`tiled_flow`)",
  weights="optical flow .pystate of the release; Hugging Face PerceiverForOpticalFlow",
  limits="Displacement 0 is the flow from the previous frame to the newest. Motion larger than "
  "about the overlap of tiles is lost between tiles.",
)


FAMILY = Family(
  name="perceiver_flow",
  config=Config,
  build=build,
  fit=fit_frames("perceiver_flow"),
  variants=VARIANTS,
  card=CARD,
  released=RELEASED,
  equals_released=("published",),
  detect=detect_flow,
  rules=lambda config: DEEPMIND["perceiver_flow"],
)
