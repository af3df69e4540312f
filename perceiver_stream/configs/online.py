"""Online learning from real video with sound.

Variants: `nano` (tests), `tiny` (a CPU; the demo), `small` and `base` (a GPU).

  perceiver-stream train --config=online:tiny --config.stream.path=MY.mp4
"""

import perceiver_stream
from perceiver_stream.streams import video
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig
from perceiver_stream.training.objectives import online_prediction

RATE_HZ = 12.5  # the slowest clip of the demo has 12 frames per second
AUDIO_RATE_HZ = 16000


def _objective(variant: str) -> ObjectiveConfig:
  if variant != "tiny":
    return ObjectiveConfig(window=8)
  # Frequent updates in real time: with a window of 2, `future_prediction` observes 18 ticks for 2 new ones.
  return online_prediction.Config(window=2, context=1)


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels = model.modalities["pixels"]
  return ExperimentConfig(
    model=model,
    stream=video.Config(
      path="media/demo",
      height=pixels.height,
      width=pixels.width,
      rate_hz=RATE_HZ,
      audio_rate_hz=AUDIO_RATE_HZ,
    ),
    objective=_objective(variant),
    # No momentum: consecutive windows are alike, and averaging their gradients overshoots
    # ("Learning from one continuous video stream", 2312.00598).
    optimizer=OptimizerConfig(name="rmsprop", b1=0.0, b2=0.95, learning_rate=5e-4, warmup_steps=20),
    run_dir=f"runs/online_{variant}",
  )
