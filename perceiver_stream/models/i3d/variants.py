"""Named sizes of I3D."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.i3d.config import Config
from perceiver_stream.models.i3d.network import build
from perceiver_stream.models.i3d.weights import detect, rules

_NANO: dict[str, Any] = {
  "num_frames": 9,
  "height": 32,
  "width": 32,
  "divisor": 16,
  "final_endpoint": "mixed_4b",
  "num_classes": 3,
}

FAMILY = ClipFamily(
  name="i3d",
  config=Config,
  build=build,
  variants={
    "rgb": Config,
    "flow": lambda: Config(channels=2, mean=(0.0,), std=(1.0,)),
    "rgb_600": lambda: Config(num_classes=600),
    "rgb_causal": lambda: Config(causal=True),
    "nano": lambda: Config(**_NANO),
    "nano_causal": lambda: Config(**_NANO, causal=True),
  },
  card=Card(
    summary="Inception-v1 inflated to clips.",
    paper="Quo vadis, action recognition? A new model and the Kinetics dataset (1705.07750)",
    code="google-deepmind/kinetics-i3d, i3d.py (Apache-2.0)",
    inputs="RGB clips in [0, 1] or flow in [-1, 1], published 64 × 224 × 224",
    weights="variables of the released TensorFlow checkpoints as .npz (Apache-2.0)",
    limits="Outputs are not compared with released code, only names, shapes and inflation.",
  ),
  released={
    "rgb": "rgb_imagenet, rgb_scratch",
    "flow": "flow_imagenet, flow_scratch",
    "rgb_600": "rgb_scratch_kin600",
  },
  detect=detect,
  rules=rules,
)
