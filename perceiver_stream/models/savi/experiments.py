"""SAVi learns the synthetic world: boxes of the first tick as cues, depth as target.

Variants: `nano` (tests), `tiny` (a CPU), `tiny_unconditional` (without cues).

  perceiver-stream train --config=savi:tiny
"""

import perceiver_stream
from perceiver_stream.models.savi import objective
from perceiver_stream.models.savi.streaming import modalities_of
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig

WINDOW = 6


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"savi/{variant}")
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=model.height,
      width=model.width,
      level="medium",
      ticks_per_recording=WINDOW,
      modalities=tuple(modalities_of(model)),
    ),
    objective=objective.Config(window=WINDOW),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=50),
    use_baselines=False,
    num_rows=2 if variant == "nano" else 4,
    max_windows=600,
    run_dir=f"runs/savi_{variant}",
  )
