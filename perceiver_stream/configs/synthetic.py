"""Online learning from moving textured objects with sound, generated on the fly: needs no files.

Variants: `nano` (tests), `tiny` (a CPU), `small` and `base` (a GPU).

  perceiver-stream train --config=synthetic:nano --config.max_windows=100
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels = model.modalities["pixels"]
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=pixels.height, width=pixels.width),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    max_windows=200,
    run_dir=f"runs/synthetic_{variant}",
  )
