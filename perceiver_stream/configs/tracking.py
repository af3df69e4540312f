"""Reading points, boxes, depth, flow and things out of the frozen states of a model.

The model watches, only the read-out learns. Rows are the three levels of the synthetic world, with
other scenes than `configs/pretrain.py` has. A variant is a model, `tiny`
(`stream_perceiver/tiny_world`), `motion` (`stream_perceiver/tiny_motion`), `moog` (`moog/tiny_world`)
or `nano` (tests: random weights), and what is read: nothing more (points), `latents` (points, from
nothing but the latents), `flow` (points, from the latents and how the model's own decoder says that
places moved), `boxes` (around things) or `dense` (depth, flow, and things against ground).

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
NUM_THINGS = 7  # of the hardest level


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
    reading(stream) if dense else following(what, NUM_THINGS if what == "boxes" else slots)
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
  """Returns the config of bundled weights; of a nano one that sees pictures, if none is named."""
  if weights:
    return perceiver_stream.config(weights)
  nano = perceiver_stream.config("stream_perceiver/nano")
  return dataclasses.replace(nano, modalities={"pixels": nano.modalities["pixels"]})


def following(what: str, slots: int) -> point_tracking.Config:
  """Returns how points or boxes are learnt to be followed."""
  follows = "boxes" if what == "boxes" else "points"
  sees = {"use_frames": what not in ("latents", "flow"), "use_flow": what == "flow"}
  reach = 0.05 if what == "flow" else point_readout.Config.reach  # little is left to correct
  readout = point_readout.Config(follows=follows, reach=reach, **sees)
  return point_tracking.Config(num_slots=slots, readout=readout)


def reading(stream: mixture.Config) -> dense_reading.Config:
  """Returns how all dense labels are learnt to be read at once."""
  specs = streams.specs(stream)
  modalities: dict[str, Any] = {n: config.fitted(specs[n]) for n, config in DENSE.items()}
  return dense_reading.Config(readout=dense_readout.Config(modalities=modalities))
