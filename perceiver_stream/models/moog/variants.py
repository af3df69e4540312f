"""Variants of MooG: the two published forms, and small ones to train."""

import dataclasses
import functools

from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.moog.config import Config, DecoderConfig, EncoderConfig, StackConfig
from perceiver_stream.models.moog.model import build
from perceiver_stream.models.moog.stages import staged
from perceiver_stream.models.moog.weights import backbone, detect


def _small(
  side: int,
  latents: int,
  dim: int,
  strides: tuple[int, ...],
  layers: int,
  octaves: tuple[int, int] = (8, 6),
) -> Config:
  stack = StackConfig(num_layers=layers, qkv_dim=dim, num_heads=4, mlp_dim=2 * dim)
  return Config(
    height=side,
    width=side,
    num_latents=latents,
    latent_dim=dim,
    norm_first=False,
    encoder=EncoderConfig(
      channels=(dim // 2,) * (len(strides) - 1) + (dim,),
      strides=strides,
      hidden_dim=dim,
      num_octaves=octaves[0],
      add_positions=True,
    ),
    predictor=stack,
    corrector=stack,
    decoder=DecoderConfig(stack=stack, num_octaves=octaves[1]),
    sample=4,
    float32_positions=False,
  )


def _movi() -> Config:
  encoder = EncoderConfig(strides=(1, 1, 1, 2, 1, 2), add_positions=True)
  return Config(norm_first=False, encoder=encoder)


def _world() -> Config:
  config = _small(64, 32, 64, (2, 2, 1), 2, octaves=(4, 5))  # no finer than the grids
  return dataclasses.replace(config, sample=8, remat=False)


VARIANTS = {
  "ego4d": Config,
  "movi": _movi,
  "tiny": lambda: _small(64, 128, 128, (2, 2, 1), 2),
  # As bundled: half as wide, because on a CPU many small updates train better than few large ones.
  "tiny_world": _world,
  "nano": lambda: _small(16, 8, 16, (2, 2), 1),
}

RELEASED = {"ego4d": "the flat .npz of the Ego4D backbone"}

CARD = Card(
  summary="A latent array that predicts a frame and is corrected by it; latents follow objects.",
  paper="van Steenkiste et al. 2024, Moving Off-the-Grid, 2411.05927",
  code="google-deepmind/representations4d, moog/ and colabs/moog_inference_demo.ipynb",
  inputs="pixels of any size that the strides divide",
  weights="flat .npz of the release: the Ego4D backbone with its point and box heads (`ego4d`)",
  limits="The published heads attend to 16 frames at once (`models.moog.readouts.ClipReadout`). "
  "Displacements beyond 1 are iterated predictions, for which it was not trained.",
)

FAMILY = Family(
  name="moog",
  config=Config,
  build=build,
  fit=fit_frames("moog"),
  variants=VARIANTS,
  card=CARD,
  stages=staged,
  released=RELEASED,
  equals_released=("ego4d", "movi", "tiny_world"),
  detect=detect,
  rules=functools.partial(backbone, ""),
  objective="perceiver_stream.models.moog.objective.NextFrame",
)
