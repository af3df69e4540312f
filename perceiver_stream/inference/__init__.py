"""Inference with trained models: load, run on a stream, predict, track, estimate flow, read latents.

  from perceiver_stream import inference
  loaded = inference.load("stream_perceiver/tiny_world")
  for window, outputs, state in inference.watch(loaded, windows):
    ...

Names are imported when first used.
"""

import importlib
from typing import Any

from perceiver_stream.utils import moved

_NAMES = {
  "Loaded": "model_loading",
  "UntrainedWarning": "model_loading",
  "evaluate": "evaluating",
  "export": "pretrained",
  "export_step": "jax_export",
  "extract_latents": "latents",
  "load": "model_loading",
  "load_odometer": "odometry",
  "load_tracker": "pretrained",
  "positions": "latents",
  "predict_video": "video_prediction",
  "read_shards": "latents",
  "untrained": "model_loading",
  "watch": "model_loading",
  "watch_states": "model_loading",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
  if name in _NAMES:
    return getattr(importlib.import_module(f"perceiver_stream.inference.{_NAMES[name]}"), name)
  if name == "predict_movie":
    return moved.moved_name(__name__, name, "inference.predict_video")
  raise AttributeError(f"module 'perceiver_stream.inference' has no attribute '{name}'")
