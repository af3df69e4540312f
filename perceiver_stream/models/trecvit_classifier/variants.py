"""Variants of the TRecViT classifier: the released one, and a small one."""

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.trecvit_classifier.classifier import Config
from perceiver_stream.models.trecvit_classifier.model import build
from perceiver_stream.models.trecvit_classifier.weights import detect, rules


def _nano() -> Config:
  backbone = RecurrentVitConfig(
    dim=16,
    num_layers=1,
    num_heads=2,
    mlp_dim=32,
    time_mlp_dim=24,
    lru=GatedLruConfig.released(24, 2),
  )
  return Config(
    height=8, width=12, patch=4, backbone=backbone, rep_dim=12, num_classes=5, frames_per_clip=3
  )


VARIANTS = {"base": Config, "nano": _nano}

CARD = Card(
  summary="Kinetics-400 classes of a stream, by recurrences per patch and attention per frame.",
  paper="TRecViT 2024, 2412.14294",
  code="google-deepmind/trecvit",
  inputs="pixels, 224×224, RGB in [0, 1]",
  weights="trecvit_B_k400.npz of the release",
  limits="The released weights were trained on clips of 32 frames: after each, the state starts "
  "anew. The masked autoencoder trecvit_B_mae.npz has no released decoder and is not read.",
)

FAMILY = Family(
  name="trecvit_classifier",
  config=Config,
  build=build,
  fit=fit_frames("trecvit_classifier"),
  variants=VARIANTS,
  card=CARD,
  released={"base": "trecvit_B_k400.npz"},
  equals_released=("base",),
  detect=detect,
  rules=rules,
)
