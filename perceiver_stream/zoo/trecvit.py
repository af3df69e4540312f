"""Sizes of TRecViT: nano for tests, tiny for a CPU."""

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.models.painter import fitted as fitted
from perceiver_stream.models.trecvit import Config as Config
from perceiver_stream.models.trecvit import build as build
from perceiver_stream.zoo.cards import Card


def _config(side: int, patch: int, dim: int, layers: int) -> Config:
  return Config(
    height=side,
    width=side,
    patch=patch,
    dim=dim,
    num_layers=layers,
    lru=GatedLruConfig(dim=dim),
    displacements=(1, 4),
  )


VARIANTS = {
  "nano": lambda: _config(16, 4, 16, 1),
  "tiny": lambda: _config(64, 8, 96, 3),
}

CARD = Card(
  summary="A gated linear recurrence through time for every place, attention over the places.",
  paper="TRecViT 2024, 2412.14294",
  code="google-deepmind/trecvit",
  inputs="pixels in whole patches",
  limits="Sizes are our own; the released weights are of classifiers and trackers and do not fit.",
)
