"""CLIP's loss of clips and their sound: each finds the other in the batch; the scale is learned.

Source: Radford et al. 2021, 2103.00020 (of images and captions); open_clip, `loss.py`.
"""

from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import (
  ClipAndSound,
  Outcome,
  Outputs,
  Views,
)
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.nn.losses.contrastive import clip_loss, unit_length

MAX_LOG_SCALE = float(np.log(100.0))


@dataclass(kw_only=True)
class Config:
  """Temperature at the start, 1 / scale."""

  temperature: float = 0.07

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("clip", self, "temperature")


class Clip(ClipAndSound):
  """Both directions, averaged."""

  name, config_type = "clip", Config

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns both embeddings, unit length, and the scale."""
    first = float(-np.log(self.config.temperature))
    scale = hk.get_parameter("log_scale", (), jnp.float32, hk.initializers.Constant(first))
    video = towers.head(towers.video(views["clip"]).features, "video_head")
    audio = towers.head(towers.audio(views["sound"]).features, "audio_head")
    return {
      "video": unit_length(video),
      "audio": unit_length(audio),
      "scale": jnp.exp(jnp.minimum(scale, MAX_LOG_SCALE)),
    }

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns InfoNCE in both directions."""
    del slow, memory
    video, audio = outputs["video"], outputs["audio"]
    loss = clip_loss(video, audio, outputs["scale"], valid=valid)
    return Outcome(loss, jnp.log(base.num_rows(valid)), video)
