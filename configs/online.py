"""Online learning from real video with sound.

Variants: `nano` (tests), `tiny` (a CPU; the demo), `small` and `base` (a GPU).

  python scripts/train.py --config=configs/online.py:tiny --config.stream.path=MY.mp4
"""

import perceiver_stream
from perceiver_stream.streams import video
from perceiver_stream.training import ExperimentConfig, OptimizerConfig

RATE_HZ = 12.5  # the slowest of the demo's clips has 12 pictures a second
AUDIO_RATE_HZ = 16000


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
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    run_dir=f"runs/online_{variant}",
  )
