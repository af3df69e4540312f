"""L3: does this sound belong to this clip? Two logits from both features.

Source: Arandjelović and Zisserman 2017, 1705.08168; no training code is released, written from the paper.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.synchronisation import correspondence_loss


@dataclass(kw_only=True)
class Config:
  """No options."""

  def validate(self) -> None:
    """Accepts all."""


class Look(Method):
  """Each clip is paired with its own sound and with that of another recording, equally often."""

  name, config_type = "l3", Config
  needs = ("pixels", "audio")

  def views(self, moments: Moments) -> Views:
    """Returns a clip, its sound, and the row of the other sound."""
    return {"clip": moments.clip(), "sound": moments.sound(), "partner": moments.partner}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the logits (apart, together) of true and of false pairs."""
    video = towers.video(views["clip"]).features
    audio = towers.audio(views["sound"]).features
    other = audio[views["partner"]]
    pairs = [jnp.concatenate([video, x], axis=1) for x in (audio, other)]
    true, false = base.halves(towers.head(jnp.concatenate(pairs), "fusion", dim=2))
    return {"true": true, "false": false, "video": video}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean cross-entropy of true and false pairs."""
    del slow, memory
    labels = jnp.arange(2 * valid.size) < valid.size
    logits = jnp.concatenate([outputs["true"], outputs["false"]])
    loss = correspondence_loss(logits, labels, jnp.concatenate([valid, valid]))
    return Outcome(loss, jnp.float32(np.log(2.0)), outputs["video"])
