"""Supervised optical flow with a Perceiver IO on the synthetic world.

Variants: `nano` (tests), `tiny` (a CPU), `published` (the size of the released model; a GPU).

  perceiver-stream train --config=flow:tiny

`tiny` reads endless scenes in parallel rows and can memorise their textures. Generalising to new
textures takes far longer; `--config.stream.ticks_per_recording=24` starts a new world every 24
ticks in each row, as in the other variants.
"""

import perceiver_stream
from perceiver_stream.models.perceiver_io.halves import FourierConfig
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import flow

SIDES = {"nano": (16, 16), "tiny": (24, 24)}
RATES = {"nano": 1e-3, "tiny": 2e-3}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"perceiver_flow/{variant}")
  model.height, model.width = SIDES.get(variant, (model.height, model.width))
  if variant == "tiny":
    model.patch_dim, model.positions = 32, FourierConfig(num_bands=8, as_released=False)
    model.encoder.num_latents, model.encoder.latent_dim = 64, 64
    model.encoder.num_layers = 2
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=model.height,
      width=model.width,
      speed=6.0,
      ticks_per_recording=0 if variant == "tiny" else 24,
      modalities=("pixels", "flow"),
    ),
    objective=flow.Config(window=4),
    optimizer=OptimizerConfig(
      learning_rate=RATES.get(variant, 1e-4),
      warmup_steps=100,
      schedule="cosine",
      decay_steps=3000,
    ),
    num_rows=2 if variant == "tiny" else 4,
    max_windows=1555,
    run_dir=f"runs/flow_{variant}",
  )
