"""Variants of RVM: the four published sizes, and small ones to train."""

from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.rvm.config import Config, LayersConfig
from perceiver_stream.models.rvm.model import build
from perceiver_stream.models.rvm.stages import staged
from perceiver_stream.models.rvm.weights import detect, rules


def _published(dim: int, layers: int, heads: int, core_mlp: int | None = None) -> Config:
  return Config(
    dim=dim,
    encoder=LayersConfig(num_layers=layers, num_heads=heads, mlp_dim=4 * dim),
    core=LayersConfig(num_layers=4, num_heads=heads, mlp_dim=core_mlp or 4 * dim),
  )


def _small(side: int, patch: int, dim: int, layers: int) -> Config:
  sizes = LayersConfig(num_layers=layers, num_heads=4, mlp_dim=2 * dim)
  decoder = LayersConfig(num_layers=layers, num_heads=4, mlp_dim=2 * dim, dim=dim)
  return Config(
    height=side,
    width=side,
    patch=patch,
    base_grid=(side // patch, side // patch),
    dim=dim,
    encoder=sizes,
    core=sizes,
    decoder=decoder,
    mask_ratio=0.75,
    displacements=(1, 4),
  )


VARIANTS = {
  "small": lambda: _published(384, 12, 6, 2048),
  "base": lambda: _published(768, 12, 12),
  "large": lambda: _published(1024, 24, 16),
  "huge": lambda: _published(1280, 32, 16),
  "tiny": lambda: _small(64, 8, 96, 2),
  "nano": lambda: _small(16, 4, 16, 1),
}

RELEASED = {
  name: f"the flat .npz of size {size}"
  for name, size in {"small": "S", "base": "B", "large": "L", "huge": "H"}.items()
}

CARD = Card(
  summary="A vision transformer per frame and a gated grid of latents through time.",
  paper="Recurrent Video Masked Autoencoders 2025, 2512.13684",
  code="google-deepmind/representations4d, colabs/rvm_inference_demo.ipynb",
  inputs="pixels in whole patches of 16 (published: 256×256)",
  weights="flat .npz of the release, S, B, L and H; depths, widths and heads are read from the file",
  limits="Predictions use the newest state with no patch visible; the released model was "
  "trained with a few visible ones and 4 to 48 frames ahead. The released code names the "
  "core's sizes for L only; those of S, B and H are chosen so that the files have their published "
  "size in bytes.",
)

FAMILY = Family(
  name="rvm",
  config=Config,
  build=build,
  fit=fit_frames("rvm"),
  variants=VARIANTS,
  card=CARD,
  stages=staged,
  released=RELEASED,
  equals_released=("small", "base", "large", "huge"),
  detect=detect,
  rules=rules,
  objective="perceiver_stream.models.rvm.objective.MaskedFuture",
)
