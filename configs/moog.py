"""MooG learns the next frame of the synthetic world by its own objective.

Variants: `nano` (tests), `tiny` (a CPU), `movi` (the published training configuration; a GPU).

  python scripts/train.py --config=configs/moog.py:tiny

The released recipe: AdamW with b2 0.95, clipped at norm 1, warmed up and brought down by a cosine.
The world moves six times as fast as by default, so that copying the last frame is not nearly right.
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import next_frame

SIDES = {"nano": 16, "tiny": 32}
RATES = {"movi": 1e-4}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"moog/{variant}")
  side = SIDES.get(variant, model.height)
  model.height = model.width = side
  if variant != "movi":
    model.sample = 2
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=side, width=side, speed=6.0, modalities=("pixels",)),
    objective=next_frame.Config(window=8, score_ticks=4),
    optimizer=OptimizerConfig(
      learning_rate=RATES.get(variant, 1e-3),
      b2=0.95,
      warmup_steps=50,
      schedule="cosine",
      decay_steps=1500,
    ),
    num_rows=4,
    max_windows=1500,
    run_dir=f"runs/moog_{variant}",
  )
