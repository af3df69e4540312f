"""Online learning from moving textured objects with sound, generated on the fly: needs no files.

Variants: `nano` (tests), `tiny` (a CPU), `small` and `base` (a GPU).

  perceiver-stream train --config=synthetic:nano --config.max_windows=100

With `_pieces` after a model with positions, its positions learn from clips that are made of the stream's
own images, from a reservoir of 16 frames, or with `_window_pieces` from those of the current window.
Six rows of short scenes; a clip of 16 ticks for each row and update. The parameters of the core do not
depend on the number of latents: `tiny_positions` learns with a quarter of them, for speed.

  perceiver-stream train --config=synthetic:tiny_positions_pieces
  perceiver-stream export runs/synthetic_tiny_positions_pieces --name=stream_perceiver/tiny_positions --output=a.safetensors
"""

import dataclasses
from typing import Any

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig
from perceiver_stream.training.objectives import pieces

SIZES: dict[str, Any] = {"window": 2, "clips": 1, "ticks": 16, "max_speed": 4.5}
PIECES = {
  "_window_pieces": pieces.Config(**SIZES, reservoir=0),
  "_pieces": pieces.Config(**SIZES, reservoir=16),
}
NUM_WINDOWS = 320  # of pieces


def get_config(variant: str = "tiny") -> ExperimentConfig:
  for suffix, objective in PIECES.items():
    if variant.endswith(suffix):
      return _of_pieces(variant, variant.removesuffix(suffix), objective)
  return _of_futures(variant)


def _of_futures(variant: str) -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels = model.modalities["pixels"]
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=pixels.height, width=pixels.width),
    objective=ObjectiveConfig(),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    max_windows=200,
    run_dir=f"runs/synthetic_{variant}",
  )


def _of_pieces(variant: str, name: str, objective: pieces.Config) -> ExperimentConfig:
  config = _of_futures(name)
  core, pixels = config.model.core, {"pixels": config.model.modalities["pixels"]}
  if name == "tiny_positions":
    core = dataclasses.replace(core, num_latents=core.num_latents // 4)
  return dataclasses.replace(
    config,
    model=dataclasses.replace(config.model, core=core, modalities=pixels),
    stream=dataclasses.replace(
      config.stream,
      level="medium",
      modalities=("pixels",),
      audio_rate_hz=0,
      ticks_per_recording=2 * objective.window,
    ),
    objective=objective,
    optimizer=OptimizerConfig(
      learning_rate=1.5e-3,
      warmup_steps=30,
      schedule="cosine",
      decay_steps=NUM_WINDOWS,
      final_fraction=0.03,
      weight_decay=1e-4,
    ),
    num_rows=6,
    use_baselines=False,
    max_windows=NUM_WINDOWS,
    run_dir=f"runs/synthetic_{variant}",
  )
