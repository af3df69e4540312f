"""Online learning from a camera, a network stream or pushed frames, while they come.

Variants: `nano` (tests), `tiny` (a CPU), `small` and `base` (a GPU).

  perceiver-stream train --config=live:tiny --config.stream.source=camera:0

`streams/live.py` lists the sources. Where the model is slower than the source the newest tick wins.
"""

from perceiver_stream.configs import online
from perceiver_stream.streams import live
from perceiver_stream.training import ExperimentConfig


def get_config(variant: str = "tiny") -> ExperimentConfig:
  config = online.get_config(variant)
  files = config.stream
  config.stream = live.Config(
    source="camera:0",
    height=files.height,
    width=files.width,
    rate_hz=files.rate_hz,
    audio_rate_hz=files.audio_rate_hz,
  )
  config.prefetch = 1  # window: those that wait are old when the model sees them
  config.run_dir = f"runs/live_{variant}"
  return config
