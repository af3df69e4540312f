"""All outputs at once on the synthetic world, as reported in `docs/results.md`.

Inputs are images and sound. Outputs are their future, depth (a label only, never an input), and
flow, which is learned without labels.

Variants: `nano` (tests), `tiny` (a CPU: about 7 minutes on 2 idle cores), `small` and `base` (a
GPU).

  perceiver-stream train --config=world:tiny

To predict sound from images only: --config.model.modalities.audio.use_input=false
"""

import dataclasses

import perceiver_stream
from perceiver_stream.modalities import depth
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels = model.modalities["pixels"]
  unseen = depth.Config(
    height=pixels.height, width=pixels.width, patch=pixels.patch, use_input=False
  )
  return ExperimentConfig(
    model=dataclasses.replace(model, modalities=model.modalities | {"depth": unseen}),
    stream=synthetic.Config(
      height=pixels.height,
      width=pixels.width,
      level="medium",
      modalities=("pixels", "audio", "depth", "flow_backward"),
    ),
    objective=ObjectiveConfig(window=8),
    optimizer=OptimizerConfig(name="rmsprop", b1=0.0, b2=0.95, learning_rate=5e-4, warmup_steps=20),
    max_windows=600,
    run_dir=f"runs/world_{variant}",
  )
