"""Sizes of the image encoder with an RNN: nano for tests, tiny for a CPU."""

from perceiver_stream.models.image_rnn import Config as Config
from perceiver_stream.models.image_rnn import build as build
from perceiver_stream.models.painter import fitted as fitted
from perceiver_stream.zoo.cards import Card


def _config(side: int, patch: int, dim: int, layers: int) -> Config:
  return Config(
    height=side, width=side, patch=patch, dim=dim, num_layers=layers, displacements=(1, 4)
  )


VARIANTS = {
  "nano": lambda: _config(16, 4, 16, 1),
  "tiny": lambda: _config(64, 8, 96, 3),
}

CARD = Card(
  summary="A vision transformer whose frames are remembered as one vector, by a GRU.",
  paper="ours; a baseline",
  inputs="pixels in whole patches",
  limits="A baseline: what does not fit into one vector is forgotten.",
)
