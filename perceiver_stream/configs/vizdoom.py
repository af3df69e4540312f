"""Online learning from a walk through a game: images, sound, depth and labels, all predicted.

Needs `pip install -e ".[sim]"` and OpenAL (Debian: libopenal1). Variants: `nano` (tests), `tiny` (a
CPU), `small` and `base` (a GPU).

  perceiver-stream train --config=vizdoom:tiny
"""

import perceiver_stream
from perceiver_stream.modalities import audio, depth, segmentation
from perceiver_stream.streams import vizdoom
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig

RATE_HZ = 5.0  # a tick is seven tics of the game
MINUTES = 30
WINDOW = 8
SIDES = {"nano": 16, "tiny": 32, "small": 128, "base": 256}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels, side = model.modalities["pixels"], SIDES.get(variant, 0)
  size = {"height": side, "width": side, "patch": pixels.patch}
  pixels.height = pixels.width = side
  model.modalities |= {
    # A tick has 4,410 samples, which 16 does not divide.
    "audio": audio.Config(
      num_samples=int(22050 / RATE_HZ), rate_hz=22050.0, patch=14, window=512, hop=441
    ),
    "depth": depth.Config(**size),
    "segmentation": segmentation.Config(**size, num_classes=len(vizdoom.CLASSES)),
  }
  model.displacements = (1, 4)
  ticks = int(MINUTES * 60 * RATE_HZ)
  return ExperimentConfig(
    model=model,
    stream=vizdoom.Config(
      rate_hz=RATE_HZ, height=side, width=side, wad="deathmatch", max_ticks=ticks
    ),
    objective=ObjectiveConfig(window=WINDOW),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    run_dir=f"runs/vizdoom_{variant}",
  )
