"""Online learning from a simulated room with falling and pushed objects and a moving camera.

Images, impact sounds, depth, labels and the pusher's proprioception are inputs and targets; its
actions are inputs only. Needs `pip install -e ".[sim]"` and a rendering library (Debian:
libosmesa6). Variants: `nano` (tests), `tiny` (a CPU), `small` and `base` (a GPU).

  perceiver-stream train --config=mujoco:tiny
"""

import perceiver_stream
from perceiver_stream.modalities import depth, segmentation, vector
from perceiver_stream.streams import mujoco
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig

NUM_OBJECTS = 6
MODALITIES = ("pixels", "audio", "depth", "segmentation", "actions", "proprioception")


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels = model.modalities["pixels"]
  size = {"height": pixels.height, "width": pixels.width, "patch": pixels.patch}
  model.modalities |= {
    "depth": depth.Config(**size),
    "segmentation": segmentation.Config(**size, num_classes=NUM_OBJECTS + 2),
    "actions": vector.Config(size=2, use_output=False),
    "proprioception": vector.Config(size=6),
  }
  model.displacements = (1, 4)
  return ExperimentConfig(
    model=model,
    stream=mujoco.Config(
      height=pixels.height, width=pixels.width, num_things=NUM_OBJECTS, modalities=MODALITIES
    ),
    objective=ObjectiveConfig(window=8),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    max_windows=200,
    run_dir=f"runs/mujoco_{variant}",
  )
