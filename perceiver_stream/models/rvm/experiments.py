"""Masked future prediction of the synthetic world with RVM and its own objective.

Variants: `nano` (tests), `tiny` (a CPU), `small` (the published size; a GPU). With the suffix
`_future`, a variant trains with `future_prediction`, which pipelined execution supports.

  perceiver-stream train --config=rvm:tiny
  perceiver-stream train --config=rvm:tiny_future --config.execution=skip_sideways

`tiny` is one endless scene at six times the default speed, in patches of 4×4 of which a quarter is
visible. It is narrower than the zoo's `rvm/tiny`, because in the time available on a CPU many small
updates train better than few large ones.
"""

import perceiver_stream
from perceiver_stream.models.rvm import objective
from perceiver_stream.models.rvm.config import Config
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig

SIDES = {"nano": 16, "tiny": 32}
RATES = {"nano": 1e-3, "tiny": 2e-3}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  name, variant = variant, variant.removesuffix("_future")
  model = perceiver_stream.config(f"rvm/{variant}")
  side = SIDES[variant] if variant in SIDES else model.height
  model.height = model.width = side
  if variant == "tiny":
    _narrow(model)
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=side, width=side, speed=6.0, modalities=("pixels",)),
    objective=objective.Config(window=4, num_targets=4)
    if name == variant
    else ObjectiveConfig(window=4),
    optimizer=OptimizerConfig(
      learning_rate=RATES.get(variant, 1e-4),
      b2=0.95,
      warmup_steps=50,
      schedule="cosine",
      decay_steps=8000,
    ),
    num_rows=1 if variant == "tiny" else 4,
    max_windows=1083,
    run_dir=f"runs/rvm_{name}",
  )


def _narrow(model: Config) -> None:
  model.patch, model.base_grid, model.remat = 4, (8, 8), False
  model.dim = model.decoder.dim = 64
  for part in (model.encoder, model.core, model.decoder):
    part.mlp_dim = 128
