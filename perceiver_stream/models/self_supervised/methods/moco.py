"""MoCo: a clip finds its other view, by a slow encoder, among a queue of older keys.

Source: He et al. 2020, 1911.05722. Batches are not shuffled: the statistics of batch norms are those of
the whole batch, also over devices.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base, queue
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.contrastive import moco_loss, unit_length
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Queue and slow encoder.

  Attributes:
    size: Keys in the queue.
    momentum: Of the slow encoder; 0.999 in the release, for 200 epochs.
    temperature: Divides the similarities.
  """

  size: Size = 512
  momentum: float = 0.99
  temperature: float = 0.07

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("moco", self, "temperature", "size")
    base.check_share("moco", self, "momentum")


class MoCo(Method):
  """The queue starts as random unit vectors, as released."""

  name, config_type = "moco", Config

  @classmethod
  def nano(cls) -> Config:
    """Returns a queue of two batches."""
    return Config(size=8, momentum=0.9)

  @property
  def momentum(self) -> float:
    """Momentum of the encoder of keys."""
    return self.config.momentum

  def views(self, moments: Moments) -> Views:
    """Returns two augmented clips."""
    return {"clip": moments.clip(), "other": moments.clip()}

  def slow_views(self, views: Views) -> Views:
    """Returns the other clip."""
    return {"clip": views["other"]}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the projection of a clip, unit length."""
    z = towers.head(towers.video(views["clip"]).features, "projector")
    return {"z": unit_length(z)}

  def first_memory(self, outputs: PyTree, rng: Array) -> PyTree:
    """Returns the queue."""
    return queue.random_ring(rng, self.config.size, outputs["z"].shape[1])

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the loss against the queue, and the queue with the new keys."""
    queries, keys = outputs["z"], slow["z"]
    loss = moco_loss(queries, keys, memory.rows, temperature=self.config.temperature, valid=valid)
    uniform = jnp.log(1.0 + self.config.size)
    return Outcome(loss, uniform, queries, queue.put(memory, keys, valid))
