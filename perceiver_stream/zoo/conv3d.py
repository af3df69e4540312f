"""Sizes of the causal 3-D convolutions: nano for tests, tiny for a CPU."""

from perceiver_stream.models.conv3d import Config as Config
from perceiver_stream.models.conv3d import build as build
from perceiver_stream.models.painter import fitted as fitted
from perceiver_stream.zoo.cards import Card


def _config(side: int, patch: int, dim: int, layers: int) -> Config:
  return Config(
    height=side, width=side, patch=patch, dim=dim, num_layers=layers, displacements=(1, 4)
  )


VARIANTS = {
  "nano": lambda: _config(16, 4, 16, 1),
  "tiny": lambda: _config(64, 8, 64, 4),
}

CARD = Card(
  summary="Residual convolutions over ticks, rows and columns that see no later tick.",
  paper="ours; a baseline",
  inputs="pixels in whole patches",
  limits="It remembers the last few ticks of every layer, and nothing before.",
)
