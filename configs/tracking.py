"""Following points in the frozen states of a model: only the tracker learns.

Rows are the three levels of the synthetic world, with other scenes than `configs/pretrain.py` has.
Variants: `tiny` (a CPU), `latents` (the same, but the tracker sees nothing beside the latents),
`nano` (tests: a model with random weights).

  python scripts/train.py --config=configs/tracking.py:tiny
  python scripts/train.py --config=configs/tracking.py:tiny --config.objective.weights=MY.safetensors
  python scripts/export.py runs/tracking_tiny --to=tracker.safetensors
"""

import dataclasses

import perceiver_stream
from perceiver_stream.models import point_readout
from perceiver_stream.streams import mixture, synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import point_tracking

POINTS = ("pixels", "points", "points_visible", "points_id")


def get_config(variant: str = "tiny") -> ExperimentConfig:
  weights = "" if variant == "nano" else "stream_perceiver/tiny"
  model = perceiver_stream.config("stream_perceiver/nano")
  if weights:
    model = perceiver_stream.load(weights)[0].config
  pixels = model.modalities["pixels"]
  model = dataclasses.replace(model, modalities={"pixels": pixels})
  slots = 8 if variant == "nano" else 64
  sources = {
    level: synthetic.Config(
      height=pixels.height,
      width=pixels.width,
      audio_rate_hz=0,
      level=level,
      ticks_per_recording=96,
      num_points=slots,
      modalities=POINTS,
      seed=100 + seed,
    )
    for seed, level in enumerate(("easy", "medium", "hard"))
  }
  readout = point_readout.Config(use_frames=variant != "latents")
  return ExperimentConfig(
    model=model,
    stream=mixture.Config(sources=sources),
    objective=point_tracking.Config(weights=weights, num_slots=slots, readout=readout),
    optimizer=OptimizerConfig(
      learning_rate=1e-3, warmup_steps=50, schedule="cosine", decay_steps=1200
    ),
    num_rows=len(sources),
    max_windows=1200,
    run_dir=f"runs/tracking_{variant}",
  )
