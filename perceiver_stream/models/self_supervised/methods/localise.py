"""Localisation of sounds: the region of an image that fits its sound, against other sounds and its background.

Source: Chen et al. 2021, 2104.02691; hche11/Localizing-Visual-Sounds-the-Hard-Way.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import (
  ClipAndSound,
  Outcome,
  Outputs,
  Views,
)
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.nn.losses.localisation import (
  localisation_logits,
  localisation_loss,
)


@dataclass(kw_only=True)
class Config:
  """Thresholds of the masks.

  Attributes:
    positive: Cosine above which a place belongs to the region.
    negative: Cosine below which it is background.
    softness: Width of the masks' sigmoids.
    temperature: Divides the means.
  """

  positive: float = 0.65
  negative: float = 0.4
  softness: float = 0.03
  temperature: float = 0.07

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("localise", self, "softness", "temperature")
    if not self.negative <= self.positive:
      raise ValueError(
        f"localise: negative={self.negative} is above positive={self.positive}; swap them."
      )


class Localise(ClipAndSound):
  """Places are those of the tower's last stage, in the mean over time. Clips are not cropped."""

  name, config_type = "localise", Config
  stream = {"silent": True}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns embeddings of places `[B, h, w, D]` and of sounds."""
    sounds = towers.head(towers.audio(views["sound"]).features, "audio_head")
    return {"places": self.places(towers, views["clip"]), "sounds": sounds}

  def places(self, towers: Towers, clips: Float[Array, "B T H W 3"]) -> Float[Array, "B h w D"]:
    """Returns the embeddings of places."""
    stages = towers.video(clips).stages
    return towers.linear(jnp.mean(stages["last"], axis=1), "place_head")

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the cross-entropy of the own region."""
    del slow, memory
    c = self.config
    logits = localisation_logits(
      outputs["places"],
      outputs["sounds"],
      positive=c.positive,
      negative=c.negative,
      softness=c.softness,
      temperature=c.temperature,
      valid=valid,
    )
    loss = localisation_loss(logits, valid)
    shown = jnp.mean(outputs["places"], axis=(1, 2))
    return Outcome(loss, jnp.log(base.num_rows(valid) + 1), shown)
