"""Variants of TAPNext: the released ones, and small ones."""

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig
from perceiver_stream.models.family import Card
from perceiver_stream.models.point_trackers import PointTracker, TrackerFamily, as_point_tracker
from perceiver_stream.models.tapnext.config import Config
from perceiver_stream.models.tapnext.network import TapNext
from perceiver_stream.models.tapnext.weights import detect, prepare, rules


def build(config: Config) -> PointTracker:
  """Returns the tracker that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  return as_point_tracker(lambda: TapNext(config), (config.height, config.width), config)


def _small(side: int, dim: int, layers: int, heads: int, head_dim: int, table: int) -> Config:
  backbone = RecurrentVitConfig(
    dim=dim,
    num_layers=layers,
    num_heads=heads,
    mlp_dim=2 * dim,
    time_mlp_dim=2 * dim,
    lru=GatedLruConfig.released(dim, heads),
  )
  return Config(
    height=side,
    width=side,
    table=(table, table),
    backbone=backbone,
    bins=table,
    head_dim=head_dim,
  )


VARIANTS = {
  "base": Config,
  "plus": lambda: Config(flavour="torch"),
  "plus_512": lambda: Config(flavour="torch", height=512, width=512),
  "tiny": lambda: _small(64, 96, 3, 4, 96, table=256),
  "nano": lambda: _small(16, 16, 1, 2, 12, table=16),
}

CARD = Card(
  summary="Points as tokens beside the patches of each frame, with a recurrence per token.",
  paper="TAPNext 2025, 2504.05579; TAPNext++ 2026",
  code="google-deepmind/tapnet, tapnext",
  inputs="pixels, 256×256 or 512×512, RGB in [0, 1]",
  weights="bootstapnext_ckpt.npz and other flat .npz files of the release; TAPNext++ .pt",
  limits="Points attend to each other: the tracks of a slot depend on the other slots. A query that "
  "starts later has no past; the released code has all queries from the first frame.",
)

FAMILY = TrackerFamily(
  name="tapnext",
  config=Config,
  build=build,
  variants=VARIANTS,
  card=CARD,
  released={
    "base": "bootstapnext_ckpt.npz",
    "plus": "tapnextpp_ckpt.pt, saved as .safetensors with torch",
  },
  equals_released=("base", "plus", "plus_512"),
  prepare=prepare,
  detect=detect,
  rules=rules,
)
