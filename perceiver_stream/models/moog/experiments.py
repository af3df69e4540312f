"""Next-frame prediction of the synthetic world with MooG and its own objective.

Variants: `nano` (tests), `tiny` (a CPU), `movi` (the published training configuration; a GPU). With
the suffix `_future`, a variant trains with `future_prediction`, which pipelined execution supports.

  perceiver-stream train --config=moog:tiny
  perceiver-stream train --config=moog:tiny_future --config.execution=skip_sideways

The released recipe: AdamW with b2 0.95, gradients clipped at norm 1, warm-up and cosine decay.
`tiny` is one endless scene at four times the default speed, so that copying the last frame is a
weak baseline; its model is `moog/tiny_world`, half as wide as `moog/tiny`, because in the time
available on a CPU many small updates train better than few large ones.
"""

import perceiver_stream
from perceiver_stream.models.moog import objective
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig

SIDES = {"nano": 16, "tiny": 24}
RATES = {"nano": 1e-3, "tiny": 3e-3, "movi": 1e-4}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  name, variant = variant, variant.removesuffix("_future")
  model = perceiver_stream.config("moog/tiny_world" if variant == "tiny" else f"moog/{variant}")
  side = SIDES[variant] if variant in SIDES else model.height
  model.height = model.width = side
  if variant == "tiny":
    model.sample = 3
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=side, width=side, speed=4.0, modalities=("pixels",)),
    objective=objective.Config(window=8, score_ticks=1)
    if name == variant
    else ObjectiveConfig(window=8),
    optimizer=OptimizerConfig(
      learning_rate=RATES.get(variant, 1e-4),
      b2=0.95,
      warmup_steps=50,
      schedule="cosine",
      decay_steps=5000,
    ),
    num_rows=1 if variant == "tiny" else 4,
    max_windows=7000,
    run_dir=f"runs/moog_{name}",
  )
