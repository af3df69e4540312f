"""Sizes of `stream_perceiver`: nano for tests, tiny for a CPU, small and base for a GPU."""

import dataclasses
import math

from perceiver_stream.core import PositionedConfig, PredictCorrectConfig
from perceiver_stream.modalities import audio, pixels
from perceiver_stream.models.family import Card, Family
from perceiver_stream.models.stream_perceiver.config import BottleneckConfig, Config
from perceiver_stream.models.stream_perceiver.network import build, fitted
from perceiver_stream.models.stream_perceiver.stages import staged


def _config(
  side: int, latents: int, dim: int, layers: int, *, heads: int, patch: int, tokenizer: str
) -> Config:
  return Config(
    modalities={
      "pixels": pixels.Config(height=side, width=side, patch=patch, tokenizer=tokenizer),
      "audio": audio.Config(),
    },
    core=PredictCorrectConfig(
      num_latents=latents,
      latent_dim=dim,
      num_heads=heads,
      num_predict_layers=layers,
      num_correct_layers=layers,
    ),
    token_dim=dim,
    query_dim=dim,
    num_decoder_heads=heads,
    num_decoder_layers=layers,
  )


def _grid(config: Config, grid: tuple[int, int]) -> Config:
  return dataclasses.replace(config, bottleneck=BottleneckConfig(latent_grid=grid))


def _positions(config: Config, positioned: int, without: int) -> Config:
  core = PositionedConfig(
    num_latents=positioned + without,
    latent_dim=config.core.latent_dim,
    num_heads=config.core.num_heads,
    global_share=without / (positioned + without),
  )
  bottleneck = BottleneckConfig(condition_queries_on_input=False)
  return dataclasses.replace(config, core=core, bottleneck=bottleneck)


def _images(config: Config) -> Config:
  return dataclasses.replace(config, modalities={"pixels": config.modalities["pixels"]})


def _world(config: Config) -> Config:
  return dataclasses.replace(_images(config), displacements=(1, 4))


def _motion(config: Config, grid: tuple[int, int], dim: int) -> Config:
  sizes = {"num_latents": math.prod(grid), "latent_dim": dim}
  motion = {"reconstruct_motion": True}
  pixels = dataclasses.replace(config.modalities["pixels"], **motion)  # type: ignore[type-var]
  return dataclasses.replace(
    config,
    modalities={"pixels": pixels},
    core=dataclasses.replace(config.core, latent_embedding="grid", **sizes),
    bottleneck=BottleneckConfig(
      condition_queries_on_input=False, latent_grid=grid, norm_tokens=False
    ),
    displacements=(0, 1),
  )


# Our own sizes; `base` has the latent array of the published MooG (1024 × 512).
VARIANTS = {
  "nano": lambda: _config(16, 8, 16, 1, heads=2, patch=4, tokenizer="patch"),
  "tiny": lambda: _config(64, 64, 128, 1, heads=4, patch=4, tokenizer="patch"),
  # Each latent is bound to one cell of the image, for comparison with free latents.
  "nano_grid": lambda: _grid(VARIANTS["nano"](), (4, 2)),
  "tiny_grid": lambda: _grid(VARIANTS["tiny"](), (8, 8)),
  # Latents with positions that follow what they lie on, and a share without. As bundled: `tiny_positions`.
  "nano_positions": lambda: _positions(VARIANTS["nano"](), 6, 2),
  "tiny_positions": lambda: _positions(_images(VARIANTS["tiny"]()), 256, 32),
  # As bundled: images only, so that the model can process any video.
  "tiny_world": lambda: _world(VARIANTS["tiny"]()),
  # As bundled: images only; one latent per token; motion has to pass through the latents.
  "tiny_motion": lambda: _motion(VARIANTS["tiny"](), (16, 16), 64),
  "small": lambda: _config(128, 256, 256, 2, heads=8, patch=8, tokenizer="conv"),
  "base": lambda: _config(256, 1024, 512, 3, heads=8, patch=8, tokenizer="conv"),
}

CARD = Card(
  summary="A recurrent latent array that reads a stream and predicts it at several displacements.",
  paper="ours; docs/design.md lists its sources",
  inputs="pixels and sound of any stream, or one of them; sizes adapt",
  limits="The bundled weights (images of 64×64) were trained on synthetic worlds only.",
)

FAMILY = Family(
  name="stream_perceiver",
  config=Config,
  build=build,
  fit=fitted,
  variants=VARIANTS,
  card=CARD,
  stages=staged,
)
