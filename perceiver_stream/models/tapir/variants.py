"""Variants of online TAPIR: the released ones, and small ones."""

from perceiver_stream.models.family import Card
from perceiver_stream.models.point_trackers import PointTracker, TrackerFamily, as_point_tracker
from perceiver_stream.models.tapir.config import Config
from perceiver_stream.models.tapir.network import Tapir
from perceiver_stream.models.tapir.weights import detect, prepare, rules


def build(config: Config) -> PointTracker:
  """Returns the tracker that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  return as_point_tracker(lambda: Tapir(config), (config.height, config.width), config)


def _small(side: int, dim: int, mixers: int) -> Config:
  return Config(
    height=side,
    width=side,
    initial_size=(side, side),
    stem=dim,
    high_dim=dim,
    middle_dim=2 * dim,
    low_dim=2 * dim,
    num_extra=1,
    mixer_dim=4 * dim,
    num_mixers=mixers,
    num_iterations=2,
  )


VARIANTS = {
  "online_boots": Config,
  "online": lambda: Config(num_extra=0),
  "tiny": lambda: _small(64, 16, 3),
  "nano": lambda: _small(16, 4, 1),
}

CARD = Card(
  summary="Each point by itself: a first guess by correlation, then refinements over time.",
  paper="TAPIR 2023, 2306.08637; BootsTAP 2024, 2402.00847",
  code="google-deepmind/tapnet, torch/tapir_model.py",
  inputs="pixels, multiples of 8, published 256×256 and 480×480; RGB in [0, 1]",
  weights="causal_bootstapir_checkpoint.npy, causal_tapir_checkpoint.npy; their .pt",
  limits="Only the causal models, frame by frame. Borders are those of the torch code.",
)

FAMILY = TrackerFamily(
  name="tapir",
  config=Config,
  build=build,
  variants=VARIANTS,
  card=CARD,
  released={
    "online_boots": "causal_bootstapir_checkpoint.npy",
    "online": "causal_tapir_checkpoint.npy",
  },
  equals_released=("online_boots", "online"),
  prepare=prepare,
  detect=detect,
  rules=rules,
)
