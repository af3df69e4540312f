"""Sizes of the spatio-temporal video autoencoder: that of the release, and small ones to train."""

from perceiver_stream.models.painter import fitted as fitted
from perceiver_stream.models.video_autoencoder import Config as Config
from perceiver_stream.models.video_autoencoder import build as build
from perceiver_stream.zoo.cards import Card


def _small(side: int, dim: int, flow_dim: int, warps: bool = True) -> Config:
  return Config(
    height=side,
    width=side,
    dim=dim,
    memory_dim=dim,
    kernel=5,
    memory_kernel=3,
    flow_kernel=7,
    flow_dim=flow_dim,
    warps=warps,
  )


VARIANTS = {
  "nano": lambda: _small(16, 8, 4),
  "tiny": lambda: _small(64, 32, 8),
  "tiny_direct": lambda: _small(64, 32, 8, warps=False),  # without flow: to compare with
  "digits": Config,  # 64×64, as released for moving digits, but for its colours
}

CARD = Card(
  summary="A ConvLSTM that foretells the flow which moves the last frame's features on.",
  paper="Pătrăucean, Handa, Cipolla 2016, Spatio-temporal video autoencoder, 1511.06309",
  code="viorik/ConvLSTM",
  inputs="pixels in whole 2×2 cells",
  limits="It foretells the next tick alone. What comes into view, no flow can bring.",
)
