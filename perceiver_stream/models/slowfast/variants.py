"""Named sizes of SlowFast networks."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.slowfast.config import Config
from perceiver_stream.models.slowfast.network import build
from perceiver_stream.models.slowfast.weights import detect, rules

_NANO: dict[str, Any] = {
  "num_frames": 4,
  "height": 32,
  "width": 32,
  "channels": 4,
  "alpha": 2,
  "beta_inv": 2,
  "fusion_kernel": 3,
  "blocks": (1, 1, 1, 1),
  "num_classes": 3,
}

FAMILY = ClipFamily(
  name="slowfast",
  config=Config,
  build=build,
  variants={
    "r50_8x8": Config,
    "r50_4x16": lambda: Config(alpha=8, fusion_kernel=5),
    "r50_8x8_causal": lambda: Config(causal=True),
    "nano": lambda: Config(**_NANO),
    "nano_causal": lambda: Config(**_NANO, causal=True),
  },
  card=Card(
    summary="Residual networks at two rates: slow and wide, fast and narrow.",
    paper="SlowFast networks for video recognition (1812.03982)",
    code="facebookresearch/SlowFast, slowfast/models/video_model_builder.py (Apache-2.0)",
    inputs="RGB clips in [0, 1], published 32 × 224 × 224; the slow pathway takes its frames itself",
    weights="released state dicts (Apache-2.0), with the names of their PyTorch form",
    limits="Bottlenecks without groups or non-local blocks. Causal forms have no published weights.",
  ),
  released={
    "r50_8x8": "SLOWFAST_8x8_R50",
    "r50_4x16": "SLOWFAST_4x16_R50",
  },
  equals_released=("r50_8x8", "r50_4x16"),
  detect=detect,
  rules=rules,
)
