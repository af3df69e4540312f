"""The tower of clips alone, as an encoder: `zoo.clip_encoders` `tsm_resnet`."""

from perceiver_stream.models.clips import ClipEncoder, ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.towers import tower_encoder
from perceiver_stream.models.tsm_resnet.config import ClipConfig
from perceiver_stream.models.tsm_resnet.network import ResNetV2
from perceiver_stream.models.tsm_resnet.weights import detect, rules


def build(config: ClipConfig) -> ClipEncoder:
  """Returns the encoder that `config` describes."""
  config.validate()
  make = lambda: ResNetV2(config, name="tower")  # noqa: E731
  reason = "Its shift reads the next frame."
  return tower_encoder(make, config, last="last", name="tsm_resnet", reason=reason)


FAMILY = ClipFamily(
  name="tsm_resnet",
  config=ClipConfig,
  build=build,
  variants={
    "resnet50": ClipConfig,
    "resnet50_x2": lambda: ClipConfig().widened(2),
    "nano": lambda: ClipConfig(
      stem_channels=8,
      stage_channels=(8, 12),
      stage_blocks=(1, 2),
      stage_strides=(1, 2),
      num_frames=3,
      height=16,
      width=16,
    ),
  },
  card=Card(
    summary="ResNet V2 with DeepMind's rotating temporal shift: the video tower of BraVe and MMV.",
    paper="Broaden Your Views for Self-Supervised Video Learning (2103.16559)",
    code="google-deepmind/brave, brave/models/brave/tsm_resnet.py (Apache-2.0)",
    inputs="RGB clips in [0, 1]; BraVe's narrow view 16 × 224 × 224 at 12.5 Hz",
    weights="BraVe's .npy (licence not stated) and MMV's .pkl (CC BY-NC 4.0): the narrow, or only, "
    "tower of clips is read",
    limits="Not causal. Released files were not tried, only their names and shapes.",
  ),
  released={
    "resnet50": "29466668_1_0.npy and others (V/A, V/AF, V/VVV), mmv_tsm_resnet_x1.pkl",
    "resnet50_x2": "29509415_1_0.npy, mmv_tsm_resnet_x2.pkl",
  },
  equals_released=("resnet50", "resnet50_x2"),
  detect=detect,
  rules=rules,
)
