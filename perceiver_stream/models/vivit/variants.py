"""Named sizes of ViViT."""

from typing import Any

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.vivit.config import Config
from perceiver_stream.models.vivit.network import build
from perceiver_stream.models.vivit.weights import detect, rules

_NANO: dict[str, Any] = {
  "num_frames": 4,
  "height": 8,
  "width": 8,
  "patch_height": 4,
  "patch_width": 4,
  "dim": 8,
  "num_layers": 1,
  "num_temporal_layers": 1,
  "num_heads": 2,
  "mlp_dim": 12,
  "num_classes": 3,
}
_LARGE: dict[str, Any] = {"dim": 1024, "num_layers": 24, "num_heads": 16, "mlp_dim": 4096}
_CAUSAL: dict[str, Any] = {"causal": True, "classifier": "gap"}

FAMILY = ClipFamily(
  name="vivit",
  config=Config,
  build=build,
  variants={
    "base": Config,
    "base_factorized_encoder": lambda: Config(kind="factorized_encoder"),
    "base_factorized_self_attention": lambda: Config(
      kind="factorized_self_attention_block", classifier="gap"
    ),
    "base_factorized_dot_product": lambda: Config(
      kind="factorized_dot_product_attention", classifier="gap"
    ),
    "large_factorized_encoder": lambda: Config(kind="factorized_encoder", **_LARGE),
    "base_factorized_encoder_causal": lambda: Config(kind="factorized_encoder", **_CAUSAL),
    "nano": lambda: Config(**_NANO),
    "nano_factorized_encoder": lambda: Config(**_NANO, kind="factorized_encoder"),
    "nano_causal": lambda: Config(**_NANO, **_CAUSAL),
    "nano_factorized_encoder_causal": lambda: Config(
      **_NANO | {"num_frames": 6}, **_CAUSAL, kind="factorized_encoder", memory=2
    ),
    "nano_factorized_self_attention_causal": lambda: Config(
      **_NANO, **_CAUSAL, kind="factorized_self_attention_block"
    ),
    "nano_factorized_dot_product_causal": lambda: Config(
      **_NANO, **_CAUSAL, kind="factorized_dot_product_attention"
    ),
  },
  card=Card(
    summary="Transformers over the tubelets of a clip, in four factorisations of space and time.",
    paper="ViViT: A video vision transformer (2103.15691)",
    code="google-research/scenic, scenic/projects/vivit (Apache-2.0)",
    inputs="RGB clips in [0, 1], published 32 × 224 × 224",
    weights="scenic's checkpoints as flat .npz or .safetensors with names joined by slashes",
    limits="Causal forms have no published weights. Model 4 must be named when loading (`kind`).",
  ),
  released={
    "base": "ViViT-B/16x2, Kinetics-400",
    "base_factorized_encoder": "ViViT-B/16x2 FE, Kinetics-400",
    "large_factorized_encoder": "ViViT-L/16x2 FE, Kinetics-400",
  },
  equals_released=(
    "base",
    "base_factorized_encoder",
    "base_factorized_self_attention",
    "base_factorized_dot_product",
    "large_factorized_encoder",
  ),
  detect=detect,
  rules=rules,
)
