"""Depth and camera motion of rendered rooms, learned online by warping; no labels are read.

Variants: `nano` (tests), `tiny_odometry` (a CPU: minutes), `tiny_odometry_conv` (causal
convolutions in place of `stream_perceiver`), `tiny_odometry_pose` and `tiny_odometry_conv_pose`
(the same networks learn the motion from the true poses).

  perceiver-stream train --config=rooms:tiny_odometry

A camera that is not known: --config.objective.readout.learn_intrinsics=true
"""

import dataclasses
from typing import Any

import perceiver_stream
from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.models import motion_readout
from perceiver_stream.streams import rooms
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import ego_motion

SIDES = {"nano": 16, "tiny": 64}
DIMS = {"nano": 16, "tiny": 64}
VARIANTS = (
  "nano",
  "tiny_odometry",
  "tiny_odometry_conv",
  "tiny_odometry_pose",
  "tiny_odometry_conv_pose",
)
RECORDING = 120  # ticks in a room


def model_of(size: str, conv: bool) -> Any:
  """Returns a model of images only, small enough for minutes on a CPU."""
  if conv:
    return perceiver_stream.config(f"conv3d/{size}")
  model = perceiver_stream.config("stream_perceiver/nano")
  pixels = dataclasses.replace(
    model.modalities["pixels"],
    height=SIDES[size],
    width=SIDES[size],
    patch=8 if size == "tiny" else 4,
  )
  model = dataclasses.replace(model, modalities={"pixels": pixels})
  if size == "nano":
    return model
  core = PredictCorrectConfig(num_latents=32, latent_dim=64, num_heads=4)
  return dataclasses.replace(model, core=core, token_dim=64, query_dim=64)


def get_config(variant: str = "tiny_odometry") -> ExperimentConfig:
  if variant not in VARIANTS:
    raise ValueError(f"rooms: variant {variant!r} is none of {', '.join(VARIANTS)}.")
  size = "nano" if variant == "nano" else "tiny"
  stream = rooms.Config(
    height=SIDES[size],
    width=SIDES[size],
    modalities=("pixels", "depth", "camera"),
    ticks_per_recording=RECORDING,
  )
  supervision = "pose" if variant.endswith("_pose") else "warping"
  readout = motion_readout.Config(
    dim=DIMS[size],
    field_of_view_deg=stream.field_of_view_deg,
    # By warping the scale is free, and paths from a far start are better; that of poses is metres.
    start_m=5.0 if supervision == "warping" else 2.5,
    farthest_m=24.0,
  )
  return ExperimentConfig(
    model=model_of(size, "conv" in variant),
    stream=stream,
    objective=ego_motion.Config(supervision=supervision, smoothness=1e-2, readout=readout),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    use_baselines=False,
    max_windows=2000,
    run_dir=f"runs/rooms_{variant}",
  )
