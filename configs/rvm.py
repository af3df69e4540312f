"""RVM learns to paint masked futures of the synthetic world by its own objective.

Variants: `nano` (tests), `tiny` (a CPU), `small` (the published size; a GPU).

  python scripts/train.py --config=configs/rvm.py:tiny
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import masked_future

SIDES = {"nano": 16, "tiny": 32}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"rvm/{variant}")
  side = SIDES.get(variant, model.height)
  model.height = model.width = side
  if variant == "tiny":
    model.patch, model.base_grid = 4, (8, 8)
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=side, width=side, speed=6.0, modalities=("pixels",)),
    objective=masked_future.Config(window=4, num_targets=2),
    optimizer=OptimizerConfig(
      learning_rate=1e-3 if variant != "small" else 1e-4,
      b2=0.95,
      warmup_steps=50,
      schedule="cosine",
      decay_steps=2000,
    ),
    num_rows=4,
    max_windows=2000,
    run_dir=f"runs/rvm_{variant}",
  )
