"""Online learning from shards of any stream, written by `perceiver-stream shards`.

Variants: `nano` (tests), `tiny` (a CPU), `small` and `base` (a GPU). The model takes the sizes and
rates of the shards.

  perceiver-stream train --config=shards:tiny --config.stream.path=shards/walk
"""

import perceiver_stream
from perceiver_stream.streams import shards
from perceiver_stream.training import ExperimentConfig, OptimizerConfig


def get_config(variant: str = "tiny") -> ExperimentConfig:
  return ExperimentConfig(
    model=perceiver_stream.config(f"stream_perceiver/{variant}"),
    stream=shards.Config(path="shards"),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    run_dir=f"runs/shards_{variant}",
  )
