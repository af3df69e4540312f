"""Named sizes of TSM networks."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.tsm.config import Config
from perceiver_stream.models.tsm.network import build
from perceiver_stream.models.tsm.weights import detect, rules

_NANO: dict[str, Any] = {
  "num_frames": 3,
  "height": 32,
  "width": 32,
  "stem_channels": 4,
  "planes": (2, 2, 2, 2),
  "layers": (1, 1, 1, 1),
  "fold_div": 4,
  "num_classes": 3,
}

FAMILY = ClipFamily(
  name="tsm",
  config=Config,
  build=build,
  variants={
    "r50": Config,
    "r50_16": lambda: Config(num_frames=16),
    "r101": lambda: Config(layers=(3, 4, 23, 3)),
    "r50_online": lambda: Config(causal=True),
    "nano": lambda: Config(**_NANO),
    "nano_online": lambda: Config(**_NANO, causal=True),
  },
  card=Card(
    summary="Residual networks of images that shift channels over time.",
    paper="TSM: Temporal shift module for efficient video understanding (1811.08383)",
    code="mit-han-lab/temporal-shift-module, ops/ (MIT)",
    inputs="RGB clips in [0, 1], published 8 × 224 × 224",
    weights="released state dicts (MIT), names without the wrapper `module.`",
    limits="Only the shift is compared with released code. Online weights are not published for it.",
  ),
  released={
    "r50": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8",
    "r50_16": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment16",
  },
  detect=detect,
  rules=rules,
)
