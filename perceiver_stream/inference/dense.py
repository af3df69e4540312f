"""Depth, flow and segmentation of a video, by a read-out of a frozen model's states."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree, UInt8

from perceiver_stream.inference.tracking import CHUNK, FeatureExtractor
from perceiver_stream.models.dense_readout import Reader
from perceiver_stream.training.objectives.readout_base import ReadoutLearner

# From the frames of a whole video to the predictions by modality, `[T, ...]`.
Reading = Callable[[UInt8[np.ndarray, "T H W 3"]], dict[str, np.ndarray]]


def as_reading(watched: ReadoutLearner[Reader], params: PyTree, chunk: int = CHUNK) -> Reading:
  """Returns a function from the frames of a video to predictions in units of the stream.

  Args:
    watched: The frozen model and the read-out.
    params: Of the read-out.
    chunk: Ticks at a time; the last chunk is padded.
  """

  def read(frames: np.ndarray) -> dict[str, np.ndarray]:
    extractor, predictions = FeatureExtractor(watched.model, watched.params, chunk), []
    for at in range(0, len(frames), chunk):
      features = jax.tree.map(lambda x: x[:, 0], extractor(frames[at : at + chunk]))
      predictions.append(jax.device_get(watched.readout.read(params, features)))
    return {
      name: modality.postprocess(
        np.concatenate([piece[name] for piece in predictions])[: len(frames)]
      )
      for name, modality in watched.readout.modalities.items()
    }

  return read
