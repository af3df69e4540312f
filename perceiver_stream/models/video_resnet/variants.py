"""Named sizes of the video ResNets."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.video_resnet.config import Config
from perceiver_stream.models.video_resnet.network import build
from perceiver_stream.models.video_resnet.weights import detect, rules

_NANO: dict[str, Any] = {
  "stem_channels": 4,
  "stem_mid_channels": 3,
  "planes": (4, 6, 6, 8),
  "layers": (1, 1, 1, 1),
  "num_classes": 3,
  "num_frames": 9,
  "height": 16,
  "width": 16,
}
_FILE = "{}_18-*.pth of torchvision"

FAMILY = ClipFamily(
  name="video_resnet",
  config=Config,
  build=build,
  variants={
    "r2plus1d_18": Config,
    "mc3_18": lambda: Config(kind="mc3"),
    "r3d_18": lambda: Config(kind="r3d"),
    "r2plus1d_18_causal": lambda: Config(causal=True),
    "nano": lambda: Config(**_NANO),
    "nano_mc3_causal": lambda: Config(**_NANO, kind="mc3", causal=True),
    "nano_causal": lambda: Config(**_NANO, causal=True),
  },
  card=Card(
    summary="Residual networks of clips: R(2+1)D, MC3 and R3D.",
    paper="A closer look at spatiotemporal convolutions for action recognition (1711.11248)",
    code="torchvision/models/video/resnet.py (BSD-3-Clause)",
    inputs="RGB clips in [0, 1], published 16 × 112 × 112",
    weights="torchvision's state dicts (BSD-3-Clause); they are trained on Kinetics-400",
    limits="The weights of the causal form are read from the same files, but not trained for it.",
  ),
  released={
    "r2plus1d_18": _FILE.format("r2plus1d"),
    "mc3_18": _FILE.format("mc3"),
    "r3d_18": _FILE.format("r3d"),
    "r2plus1d_18_causal": _FILE.format("r2plus1d"),
  },
  equals_released=("r2plus1d_18", "mc3_18", "r3d_18"),
  detect=detect,
  rules=rules,
)
