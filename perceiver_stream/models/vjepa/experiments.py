"""V-JEPA learns the synthetic world by its own objective.

Variants: `nano` (tests), `tiny` (a CPU).

  perceiver-stream train --config=vjepa:tiny
"""

import perceiver_stream
from perceiver_stream.models.vjepa import objective
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"vjepa_stream/{variant}")
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=model.height, width=model.width, modalities=("pixels",)),
    objective=objective.Config(window=model.num_frames, momentum=0.99),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=50, weight_decay=0.04),
    use_baselines=False,
    num_rows=4 if variant == "nano" else 16,
    max_windows=1500,
    run_dir=f"runs/vjepa_{variant}",
  )
