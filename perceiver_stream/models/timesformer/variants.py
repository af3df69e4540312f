"""Named sizes of TimeSformer."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.timesformer.config import Config
from perceiver_stream.models.timesformer.network import build
from perceiver_stream.models.timesformer.weights import detect, rules

_NANO: dict[str, Any] = {
  "num_frames": 3,
  "height": 8,
  "width": 8,
  "patch": 4,
  "dim": 8,
  "num_layers": 2,
  "num_heads": 2,
  "mlp_dim": 12,
  "num_classes": 3,
}

FAMILY = ClipFamily(
  name="timesformer",
  config=Config,
  build=build,
  variants={
    "base": Config,
    "base_high_resolution": lambda: Config(num_frames=16, height=448, width=448),
    "base_long": lambda: Config(num_frames=96),
    "base_joint": lambda: Config(kind="joint_space_time"),
    "base_space_only": lambda: Config(kind="space_only"),
    "base_causal": lambda: Config(causal=True),
    "nano": lambda: Config(**_NANO),
    "nano_joint": lambda: Config(**_NANO, kind="joint_space_time"),
    "nano_space_only": lambda: Config(**_NANO, kind="space_only"),
    "nano_causal": lambda: Config(**_NANO, causal=True, memory=2),
    "nano_joint_causal": lambda: Config(**_NANO, kind="joint_space_time", causal=True),
  },
  card=Card(
    summary="Vision transformers with divided, joint or space-only attention.",
    paper="Is space-time attention all you need for video understanding? (2102.05095)",
    code="facebookresearch/TimeSformer, timesformer/models/vit.py (CC BY-NC 4.0; not used here)",
    inputs="RGB clips in [0, 1], published 8 × 224 × 224",
    weights="released .pyth state dicts; their licence is the code's, CC BY-NC 4.0",
    limits="Causal forms have no published weights. Heads of files are taken to be 64 wide.",
  ),
  released={
    "base": "TimeSformer_divST_8x32_224_K400.pyth",
    "base_high_resolution": "TimeSformer_divST_16x16_448_K400.pyth",
    "base_long": "TimeSformer_divST_96x4_224_K400.pyth",
  },
  equals_released=(
    "base",
    "base_high_resolution",
    "base_long",
    "base_joint",
    "base_space_only",
  ),
  detect=detect,
  rules=rules,
)
