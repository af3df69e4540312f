"""Read-outs of points, boxes, depth, flow and segmentation from the states of a frozen model.

Only the read-out is trained. Rows are the three levels of the synthetic world, with other scenes
than in `configs/pretrain.py`. A variant is the name of a model, optionally with the name of a task:
`MODEL` or `MODEL_TASK`.

Models: `tiny` (`stream_perceiver/tiny_world`), `motion` (`stream_perceiver/tiny_motion`), `moog`
(`moog/tiny_world`) and `nano` (tests: random weights). Tasks: points by default; `latents` (points,
from the latents only), `flow` (points, from the latents and the flow that the model decodes from
them), `boxes` (of objects) and `dense` (depth, flow, and segmentation into objects and ground).

  perceiver-stream train --config=tracking:tiny
  perceiver-stream train --config=tracking:moog_latents
  perceiver-stream train --config=tracking:tiny --config.objective.weights=MY.safetensors
  perceiver-stream export runs/tracking_tiny --output=tracker.safetensors
"""

import dataclasses
from typing import Any

import perceiver_stream
from perceiver_stream import streams
from perceiver_stream.modalities import depth, flow, segmentation
from perceiver_stream.models import dense_readout, point_readout
from perceiver_stream.streams import mixture, synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import dense_reading, point_tracking

WEIGHTS = {
  "tiny": "stream_perceiver/tiny_world",
  "motion": "stream_perceiver/tiny_motion",
  "moog": "moog/tiny_world",
  "nano": "",
}
DENSE = {
  "depth": depth.Config(use_input=False),
  "flow_backward": flow.Config(use_input=False),
  "segmentation": segmentation.Config(use_input=False, num_classes=2, foreground=True),
}
NEEDS = {"boxes": ("segmentation",), "dense": tuple(DENSE)}
NUM_WINDOWS = {"boxes": 600, "dense": 400, "flow": 600}
NUM_OBJECTS = 7  # at the hardest level


def get_config(variant: str = "tiny") -> ExperimentConfig:
  name, _, what = variant.partition("_")
  model = config_of(WEIGHTS[name])
  shape = perceiver_stream.build(model).modalities["pixels"].spec.shape
  slots = 8 if name == "nano" else 64
  sources: dict[str, Any] = {
    level: synthetic.Config(
      height=shape[0],
      width=shape[1],
      audio_rate_hz=0,
      level=level,
      ticks_per_recording=96,
      num_points=slots,
      modalities=("pixels", *NEEDS.get(what, point_tracking.LABELS["points"])),
      seed=100 + seed,
    )
    for seed, level in enumerate(("easy", "medium", "hard"))
  }
  stream = mixture.Config(sources=sources)
  dense = what == "dense"
  objective = (
    dense_objective(stream)
    if dense
    else tracking_objective(what, NUM_OBJECTS if what == "boxes" else slots)
  )
  num = NUM_WINDOWS.get(what, 1200)
  return ExperimentConfig(
    model=model,
    stream=stream,
    objective=dataclasses.replace(objective, weights=WEIGHTS[name]),
    optimizer=OptimizerConfig(
      learning_rate=1e-3, warmup_steps=50, schedule="cosine", decay_steps=num
    ),
    num_rows=len(sources),
    max_windows=num,
    run_dir=f"runs/tracking_{variant}",
  )


def config_of(weights: str) -> Any:
  """Returns the config of bundled weights; without a name, a nano config that reads images."""
  if weights:
    return perceiver_stream.config(weights)
  nano = perceiver_stream.config("stream_perceiver/nano")
  return dataclasses.replace(nano, modalities={"pixels": nano.modalities["pixels"]})


def tracking_objective(what: str, slots: int) -> point_tracking.Config:
  """Returns the objective for tracking points or boxes."""
  follows = "boxes" if what == "boxes" else "points"
  inputs = {"use_frames": what not in ("latents", "flow"), "use_flow": what == "flow"}
  reach = 0.05 if what == "flow" else point_readout.Config.reach  # corrections are small
  readout = point_readout.Config(follows=follows, reach=reach, **inputs)
  return point_tracking.Config(num_slots=slots, readout=readout)


def dense_objective(stream: mixture.Config) -> dense_reading.Config:
  """Returns the objective for reading out all dense labels at once."""
  specs = streams.specs(stream)
  modalities: dict[str, Any] = {n: config.fitted(specs[n]) for n, config in DENSE.items()}
  return dense_reading.Config(readout=dense_readout.Config(modalities=modalities))
