"""Future prediction of the synthetic world with models that predict whole frames.

Variants: `trecvit`, `image_rnn`, `conv3d` and `video_autoencoder` (for a CPU), `nano` (tests). The
flow that the video autoencoder learns from frames is scored as `pixels_flow@1`, with zero flow as
baseline.

  perceiver-stream train --config=frame_predictors:video_autoencoder

The stream is one endless scene at four times the default speed, so that copying the last frame is a
weak baseline.
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import ObjectiveConfig

SIDE = 32


def get_config(variant: str = "trecvit") -> ExperimentConfig:
  name = "video_autoencoder/nano" if variant == "nano" else f"{variant}/tiny"
  model = perceiver_stream.config(name)
  model.height = model.width = side = min(model.height, SIDE)
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=side, width=side, speed=4.0, modalities=("pixels", "flow_backward")
    ),
    objective=ObjectiveConfig(window=4),
    optimizer=OptimizerConfig(
      learning_rate=1e-3, b2=0.95, warmup_steps=50, schedule="cosine", decay_steps=4000
    ),
    num_rows=1,
    max_windows=4000,
    run_dir=f"runs/frame_predictors_{variant}",
  )
