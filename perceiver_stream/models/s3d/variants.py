"""The tower of clips alone, as an encoder: `zoo.clip_encoders` `s3d`."""

from perceiver_stream.models.clips import ClipEncoder, ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.s3d.config import ClipConfig
from perceiver_stream.models.s3d.network import S3D
from perceiver_stream.models.s3d.weights import detect, rules
from perceiver_stream.models.towers import tower_encoder


def build(config: ClipConfig) -> ClipEncoder:
  """Returns the encoder that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  make = lambda: S3D(config, name="tower")  # noqa: E731
  reason = "Its gates average over a whole clip."
  return tower_encoder(make, config, last=config.final_endpoint, name="s3d", reason=reason)


FAMILY = ClipFamily(
  name="s3d",
  config=ClipConfig,
  build=build,
  variants={
    "gated": ClipConfig,
    "gated_plain": lambda: ClipConfig(space_to_depth=False),
    "nano": lambda: ClipConfig(
      divisor=16, final_endpoint="mixed_3b", num_frames=4, height=16, width=16
    ),
  },
  card=Card(
    summary="S3D-G, Inception-v1 with separate kernels over space and time and gates: a tower of MMV.",
    paper="Rethinking Spatiotemporal Feature Learning (1712.04851)",
    code="google-deepmind/deepmind-research, mmv/models/s3d.py (Apache-2.0)",
    inputs="RGB clips in [0, 1]; MMV's 32 × 224 × 224",
    weights="MMV's mmv_s3d.pkl (CC BY-NC 4.0): the tower of clips is read",
    limits="Not causal. Outputs are not compared with released code, only names and shapes.",
  ),
  released={"gated": "mmv_s3d.pkl"},
  detect=detect,
  rules=rules,
)
