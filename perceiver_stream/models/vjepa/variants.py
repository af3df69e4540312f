"""Named sizes of V-JEPA: the published ones, and small ones to train."""

from perceiver_stream.models.clips import ClipFamily
from perceiver_stream.models.family import Card
from perceiver_stream.models.vjepa.config import Config, MaskConfig, PredictorConfig
from perceiver_stream.models.vjepa.network import build
from perceiver_stream.models.vjepa.weights import detect, encoder_rules


def _first(dim: int, layers: int, side: int = 224) -> Config:
  return Config(
    height=side,
    width=side,
    dim=dim,
    num_layers=layers,
    predictor=PredictorConfig(num_heads=16),
  )


def _second(dim: int, layers: int, heads: int, side: int = 256, mlp_dim: int = 0) -> Config:
  return Config(
    num_frames=64,
    height=side,
    width=side,
    dim=dim,
    num_layers=layers,
    num_heads=heads,
    mlp_dim=mlp_dim,
    positions="rotary",
    predictor=PredictorConfig(num_heads=12, num_mask_tokens=10),
  )


def _small(side: int, patch: int, frames: int, dim: int, layers: int, rotary: bool) -> Config:
  """Sizes of the miniature: clips of 8 frames, tubelets of 2 × 8 × 8."""
  share = max(0.15, (patch / side) ** 2)  # a block has at least one patch
  return Config(
    num_frames=frames,
    height=side,
    width=side,
    patch=patch,
    dim=dim,
    num_layers=layers,
    num_heads=4,
    positions="rotary" if rotary else "table",
    predictor=PredictorConfig(dim=dim // 2, num_layers=min(layers, 2), num_heads=4),
    masks=(
      MaskConfig(num_blocks=3, spatial_scale=(share, share)),
      MaskConfig(num_blocks=2, spatial_scale=(0.5, 0.5)),
    ),
  )


VARIANTS = {
  "large": lambda: _first(1024, 24),
  "huge": lambda: _first(1280, 32),
  "huge_384": lambda: _first(1280, 32, 384),
  "v2_large": lambda: _second(1024, 24, 16),
  "v2_huge": lambda: _second(1280, 32, 16),
  "v2_giant": lambda: _second(1408, 40, 22, mlp_dim=6144),
  "v2_giant_384": lambda: _second(1408, 40, 22, 384, 6144),
  "tiny": lambda: _small(32, 8, 8, 64, 3, False),
  "nano": lambda: _small(16, 8, 4, 16, 1, False),
  "nano_v2": lambda: _small(16, 8, 4, 24, 1, True),
}

RELEASED = {
  "large": "vitl16.pth.tar",
  "huge": "vith16.pth.tar",
  "huge_384": "vith16-384.pth.tar",
  "v2_large": "vitl.pt",
  "v2_huge": "vith.pt",
  "v2_giant": "vitg.pt",
  "v2_giant_384": "vitg-384.pt",
}

FAMILY = ClipFamily(
  name="vjepa",
  config=Config,
  build=build,
  variants=VARIANTS,
  card=Card(
    summary="Vision transformers of tubelets, trained to predict features of hidden ones.",
    paper="V-JEPA (2404.08471), V-JEPA 2 (2506.09985)",
    code="facebookresearch/jepa (CC BY-NC 4.0, not copied: our own words), facebookresearch/vjepa2 (MIT)",
    inputs="RGB clips in [0, 1], 16 × 224 × 224 or 64 × 256 × 256; normalised inside",
    weights="the released checkpoints as .safetensors, the teacher's encoder; the weights of version 1 "
    "are CC BY-NC 4.0",
    limits="The action-conditioned predictor of version 2 is not here. The encoder of released files "
    "is loaded; their predictor by `vjepa.weights.predictor_rules`.",
  ),
  released=RELEASED,
  equals_released=tuple(RELEASED),
  detect=detect,
  rules=encoder_rules,
)
