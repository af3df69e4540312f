"""Frames of a video for a model, a fixed number at a time, so that one program serves all."""

import numpy as np
from jaxtyping import UInt8

from perceiver_stream.models.base import Model
from perceiver_stream.utils.opencv import resized

CHUNK = 8  # frames observed in one call


def padded_chunk(
  what: str, model: Model, frames: UInt8[np.ndarray, "T H W 3"], ticks: int, chunk: int
) -> UInt8[np.ndarray, "chunk h w 3"]:
  """Returns frames in a model's size, padded to a chunk with the last one.

  Args:
    what: Name of the caller, for the message.
    model: Observes pixels.
    frames: At most `chunk`; fewer end the video.
    ticks: Frames before these.
    chunk: Frames returned.

  Raises:
    ValueError: There are more frames than a chunk, or the video has ended.
  """
  return padded_frames(what, model.modalities["pixels"].spec.shape[:2], frames, ticks, chunk)


def padded_frames(
  what: str, size: tuple[int, ...], frames: UInt8[np.ndarray, "T H W 3"], ticks: int, chunk: int
) -> UInt8[np.ndarray, "chunk h w 3"]:
  """Returns the result of `padded_chunk` for frames of `size`, rows and columns."""
  count = len(frames)
  if not 0 < count <= chunk or ticks % chunk:
    raise ValueError(
      f"{what}: {count} frames after {ticks}; give {chunk} at a time, fewer only at the end."
    )
  rows, columns = size
  pixels = np.stack([resized(frame, (rows, columns)) for frame in frames])
  return np.concatenate([pixels, np.repeat(pixels[-1:], chunk - count, axis=0)])
