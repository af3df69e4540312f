"""Named sizes of LongViViT."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.longvivit.config import Config, TextConfig
from perceiver_stream.models.longvivit.network import build

_BERT_BASE = TextConfig(dim=768, num_layers=12, num_heads=12, mlp_dim=3072)
_LARGE: dict[str, Any] = {"dim": 1024, "num_layers": 24, "num_heads": 16, "mlp_dim": 4096}


def nano(**changes: Any) -> Config:
  """Returns sizes for tests."""
  text = TextConfig(vocabulary=6, num_words=3, dim=8, num_layers=1, num_heads=2, mlp_dim=12)
  sizes: dict[str, Any] = {"num_frames": 4, "height": 8, "width": 8, "dim": 8, "embed_dim": 6}
  sizes |= {"patch_height": 4, "patch_width": 4, "num_layers": 2, "num_heads": 2, "mlp_dim": 12}
  return Config(**sizes | {"text": text, "masking": 0.5} | changes)


def tiny(**changes: Any) -> Config:
  """Returns the sizes of the miniature: clips of 64 frames of `streams.events`."""
  text = TextConfig(vocabulary=10, num_words=3, dim=32, num_layers=3, num_heads=2, mlp_dim=64)
  sizes: dict[str, Any] = {"num_frames": 64, "height": 16, "width": 16, "dim": 32, "embed_dim": 32}
  sizes |= {"patch_height": 4, "patch_width": 4, "num_layers": 2, "num_heads": 2, "mlp_dim": 64}
  return Config(**sizes | {"patch_frames": 8, "text": text} | changes)


FAMILY = ClipFamily(
  name="longvivit",
  config=Config,
  build=build,
  variants={
    "base": Config,
    "base_factorised": lambda: Config(attention="factorised"),
    "large": lambda: Config(**_LARGE, text=_BERT_BASE, embed_dim=768),
    "tiny": tiny,
    "nano": nano,
    "nano_factorised": lambda: nano(attention="factorised", adapter_dim=3, lora_rank=2),
    "nano_frames": lambda: nano(attention="frames"),
  },
  card=Card(
    summary="A contrastive encoder of long clips and captions that reads a part of the tubelets.",
    paper="A Simple Recipe for Contrastively Pre-training Video-First Encoders Beyond 16 Frames "
    "(2312.07395)",
    inputs="RGB clips in [0, 1], published 128 × 256 × 256; captions as numbers of words",
    limits="Written from the paper; no code or weights are released. It averages over a whole clip.",
  ),
)
