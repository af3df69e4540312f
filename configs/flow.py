"""A Perceiver IO learns optical flow from the true flow of the synthetic world.

Variants: `nano` (tests), `tiny` (a CPU), `published` (the size of the released model; a GPU).

  python scripts/train.py --config=configs/flow.py:tiny

Each row is a world of its own that ends after 24 ticks: what is learnt must hold for any texture.
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import flow

SIDES = {"nano": (16, 16), "tiny": (24, 24)}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"perceiver_flow/{variant}")
  model.height, model.width = SIDES.get(variant, (model.height, model.width))
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=model.height,
      width=model.width,
      speed=6.0,
      ticks_per_recording=24,
      modalities=("pixels", "flow"),
    ),
    objective=flow.Config(window=4),
    optimizer=OptimizerConfig(
      learning_rate=1e-3 if variant != "published" else 1e-4,
      warmup_steps=100,
      schedule="cosine",
      decay_steps=3000,
    ),
    num_rows=4,
    max_windows=3000,
    run_dir=f"runs/flow_{variant}",
  )
