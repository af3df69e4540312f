"""Online learning from moving textured objects with sound, generated on the fly: needs no files.

Variants: `nano` (tests), `tiny` (a CPU), `small` and `base` (a GPU).

  perceiver-stream train --config=synthetic:nano --config.max_windows=100

With `_pieces` after a model with positions, its positions learn from clips that are made of the stream's
own images, from a reservoir of 16 frames, or with `_window_pieces` from those of the current window:

  perceiver-stream train --config=synthetic:tiny_positions_pieces
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig
from perceiver_stream.training.objectives import pieces

PIECES = {"_window_pieces": pieces.Config(reservoir=0), "_pieces": pieces.Config()}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  name, objective = variant, ObjectiveConfig()
  for suffix, chosen in PIECES.items():
    if name.endswith(suffix):
      name, objective = name.removesuffix(suffix), chosen
  model = perceiver_stream.config(f"stream_perceiver/{name}")
  pixels = model.modalities["pixels"]
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(height=pixels.height, width=pixels.width),
    objective=objective,
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    max_windows=200,
    run_dir=f"runs/synthetic_{variant}",
  )
