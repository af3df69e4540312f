"""Learning online from a stream, stopping and going on, and using what was learnt.

  from perceiver_stream import training
  summary = training.train(training.load_config("configs/online.py:tiny"))
  model, params, *_ = training.load(summary.run_dir)

Names are imported when first used.
"""

import importlib
from typing import Any

_NAMES = {
  "CheckpointConfig": "checkpoints",
  "CheckpointError": "checkpoints",
  "ExperimentConfig": "config",
  "FuturePrediction": "objectives",
  "LogConfig": "logs",
  "MeshConfig": "mesh",
  "NonFiniteError": "loop",
  "ObjectiveConfig": "objectives",
  "OptimizerConfig": "optimizers",
  "Parts": "parts",
  "Summary": "loop",
  "evaluate": "evaluating",
  "extract_latents": "latents",
  "from_json": "config",
  "load": "inference",
  "load_config": "flags",
  "make_parts": "parts",
  "predict_movie": "predicting",
  "read_shards": "latents",
  "to_json": "config",
  "train": "loop",
  "untrained": "inference",
  "watch": "inference",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
  if name in _NAMES:
    return getattr(importlib.import_module(f"perceiver_stream.training.{_NAMES[name]}"), name)
  raise AttributeError(f"module 'perceiver_stream.training' has no attribute '{name}'")
