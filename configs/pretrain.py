"""How the weights that ship are made: one small model watches four streams at once.

Three rows are the synthetic world at its levels, a new scene every 96 ticks; the fourth is the
MuJoCo room (extra `sim`). Pictures only, so that the model can watch any video.

Variants: `tiny` (a CPU), `nano` (tests; without MuJoCo).

  python scripts/train.py --config=configs/pretrain.py:tiny
  python scripts/export.py runs/pretrain_tiny --to=tiny.safetensors
"""

import dataclasses

import perceiver_stream
from perceiver_stream.streams import mixture, mujoco, synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"stream_perceiver/{variant}")
  pixels = model.modalities["pixels"]
  model = dataclasses.replace(model, modalities={"pixels": pixels}, displacements=(1, 4))
  same = {"height": pixels.height, "width": pixels.width, "audio_rate_hz": 0}
  sources = {
    level: synthetic.Config(
      **same, level=level, ticks_per_recording=96, modalities=("pixels",), seed=seed
    )
    for seed, level in enumerate(("easy", "medium", "hard"))
  }
  if variant != "nano":
    sources["room"] = mujoco.Config(**same, ticks_per_recording=750, modalities=("pixels",))
  return ExperimentConfig(
    model=model,
    stream=mixture.Config(sources=sources),
    objective=ObjectiveConfig(window=8),
    optimizer=OptimizerConfig(
      name="rmsprop",
      b1=0.0,
      b2=0.95,
      learning_rate=5e-4,
      warmup_steps=20,
      schedule="cosine",
      decay_steps=700,
    ),
    num_rows=len(sources),
    max_windows=700,
    use_baselines=False,
    run_dir=f"runs/pretrain_{variant}",
  )
