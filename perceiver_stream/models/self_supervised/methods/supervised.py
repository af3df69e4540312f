"""The reference: the same tower learns classes from labels."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.contrastive import cross_entropy, mean_rows
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Classes of the stream's labels."""

  classes: Size = 4

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("supervised", self, "classes")


class Supervised(Method):
  """Cross-entropy of a linear classifier on the tower's features, with the augmentation of the others."""

  name, config_type = "supervised", Config
  needs = ("pixels", "label")

  def views(self, moments: Moments) -> Views:
    """Returns a clip and its label, that of the first tick."""
    return {"clip": moments.clip(), "label": moments.labels()}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns features and logits; labels pass through."""
    features = towers.video(views["clip"]).features
    logits = towers.linear(features, "classifier", dim=self.config.classes)
    return {"features": features, "logits": logits, "label": views["label"]}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean cross-entropy."""
    del slow, memory
    loss = mean_rows(cross_entropy(outputs["logits"], outputs["label"]), valid=valid)
    return Outcome(loss, jnp.log(jnp.float32(self.config.classes)), outputs["features"])
