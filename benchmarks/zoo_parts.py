"""Inputs of the models for `zoo.py`, and the number of tiles that cover an image."""

import math
from typing import Any

import numpy as np

import perceiver_stream
from perceiver_stream.models.perceiver_io import flow as perceiver_flow


def pictures(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def inputs_of(config: Any) -> Any:
  """Returns the inputs of the network: two frames, or a clip."""
  if isinstance(config, perceiver_flow.Config):
    return 2 * pictures(1, 2, config.height, config.width, config.channels) - 1
  return {
    "image": pictures(1, config.num_frames, config.height, config.width, config.channels),
    "audio": 2 * pictures(1, config.samples, 1) - 1,
    "label": np.zeros((1, config.num_classes), np.float32),
  }


def released_tiles(size: tuple[int, int], config: perceiver_flow.Config, overlap: int = 20) -> int:
  """Returns the number of tiles of the released colab, or of its rule where it fails."""
  steps = (config.height - overlap, config.width - overlap)
  return math.prod(len(range(0, n, max(step, 1))) for n, step in zip(size, steps, strict=True))


def tile_rows(name: str) -> list[list[Any]]:
  """Returns the number of tiles that cover an image, and that of the released rule, which repeats some."""
  config, rows = perceiver_stream.config(name), []
  for height, width in ((368, 496), (720, 1280), (1080, 1920), (2160, 3840)):
    starts = [
      [perceiver_flow.tile_starts(n, t, 20, fewest=fewest) for n, t in sizes]
      for fewest in (False, True)
      for sizes in [((height, config.height), (width, config.width))]
    ]
    counts = [len(y) * len(x) for y, x in starts]
    released = released_tiles((height, width), config)
    rows.append([f"{width} x {height}", released, *counts, counts[0] / released])
  return rows
