"""Online training on a stream: start, stop and resume.

  from perceiver_stream import inference, training
  summary = training.train(training.load_config("online:tiny"))
  model, params, *_ = inference.load(summary.run_dir)

Names are imported when first used.
"""

import importlib
from typing import Any

from perceiver_stream.utils import moved

_NAMES = {
  "CheckpointConfig": "checkpoints",
  "CheckpointError": "checkpoints",
  "ExperimentConfig": "config",
  "FuturePrediction": "objectives",
  "LogConfig": "config",
  "MeshConfig": "mesh",
  "NonFiniteError": "loop",
  "ObjectiveConfig": "objectives",
  "OptimizerConfig": "optimizers",
  "Parts": "parts",
  "Summary": "loop",
  "from_json": "config",
  "load_config": "flags",
  "make_parts": "parts",
  "to_json": "config",
  "train": "loop",
}

# As of version 0.1; gone in 0.2.
_MOVED = {
  "evaluate": "inference.evaluate",
  "extract_latents": "inference.extract_latents",
  "load": "inference.load",
  "predict_movie": "inference.predict_video",
  "read_shards": "inference.read_shards",
  "untrained": "inference.untrained",
  "watch": "inference.watch",
}
moved.install(
  {
    "training.autoencoding": "inference.autoencoding",
    "training.classes": "inference.classification",
    "training.evaluating": "inference.evaluating",
    "training.flow_movies": "inference.flow_videos",
    "training.flows": "inference.flow_estimation",
    "training.inference": "inference.model_loading",
    "training.latents": "inference.latents",
    "training.logs": "reporting.tensorboard",
    "training.moog_heads": "inference.moog_heads",
    "training.movies": "reporting.video_writer",
    "training.names": "utils.suggest",
    "training.objectives.frozen": "training.objectives.readout_base",
    "training.objectives.masked_future": "models.rvm.objective",
    "training.objectives.next_frame": "models.moog.objective",
    "training.options": "utils.options",
    "training.point_tracking": "inference.tracking_methods",
    "training.predicting": "inference.video_prediction",
    "training.pretrained": "inference.pretrained",
    "training.progress": "reporting.progress",
    "training.reading": "inference.dense",
    "training.scores": "reporting.scores",
    "training.scripting": "inference.cli",
    "training.strips": "reporting.strips",
    "training.track_files": "inference.track_writers",
    "training.track_movies": "inference.track_videos",
    "training.vocoder": "inference.griffin_lim",
    "training.watching_points": "inference.tracking",
  }
)

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
  if name in _NAMES:
    return getattr(importlib.import_module(f"perceiver_stream.training.{_NAMES[name]}"), name)
  if name in _MOVED:
    return moved.moved_name(__name__, name, _MOVED[name])
  raise AttributeError(f"module 'perceiver_stream.training' has no attribute '{name}'")
