"""SeLaVi: balanced clusters that clips and their sound agree on, several clusterings at once.

Source: Asano et al. 2020, 2006.13662 (its code is CC BY-NC 4.0; written from the paper). Clusters are
balanced over the newest samples instead of a whole data set, at every window. Heads of sound learn the
same labels as those of video from the first window on, so that they need no alignment.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base, queue
from perceiver_stream.models.self_supervised.methods.base import (
  ClipAndSound,
  Outcome,
  Outputs,
  Views,
)
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.nn.losses.clustering import cross_modal_loss
from perceiver_stream.nn.losses.online_clustering import balanced_assignment
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Clusters.

  Attributes:
    clusters: Number of clusters of each head.
    heads: Clusterings.
    size: Samples that are balanced together, the newest.
    sharpness: Power of the geometric mean of both modalities' probabilities.
    steps: Steps of the scaling.
    balanced: If False, a label is the most probable cluster: the ablation.
  """

  clusters: Size = 8
  heads: Size = 3
  size: Size = 256
  sharpness: float = 20.0
  steps: Size = 20
  balanced: bool = True

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("selavi", self, "clusters", "heads", "size", "sharpness", "steps")


class Selavi(ClipAndSound):
  """Labels are the best columns of the transport of the newest samples to equal clusters."""

  name, config_type = "selavi", Config

  @classmethod
  def nano(cls) -> Config:
    """Returns two heads of three clusters of two batches."""
    return Config(clusters=3, heads=2, size=8, steps=3)

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns features of the clip, and the logits of all heads, `[B, M, K]`."""
    c = self.config
    video = towers.video(views["clip"]).features
    logits = {
      "video": towers.head(video, "video_heads", dim=c.heads * c.clusters),
      "audio": towers.head(
        towers.audio(views["sound"]).features, "audio_heads", dim=c.heads * c.clusters
      ),
    }
    split = {name: x.reshape(-1, c.heads, c.clusters) for name, x in logits.items()}
    return {"features": video, **split}

  def first_memory(self, outputs: PyTree, rng: Array) -> PyTree:
    """Returns an empty memory of logarithms of probabilities."""
    del outputs, rng
    return queue.empty_ring(self.config.size, self.config.heads, self.config.clusters)

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean cross-entropy of both modalities over all heads."""
    del slow
    c = self.config
    both = (jax.nn.log_softmax(outputs[name]) for name in ("video", "audio"))
    joint = base.without_gradient(0.5 * c.sharpness * sum(both))
    after = queue.put(memory, joint, valid)
    labels = jnp.argmax(joint, axis=-1)
    if c.balanced:
      mass = jnp.where(after.known, 0.0, -jnp.inf)
      balanced = lambda ring, own: balanced_assignment(ring, own, mass, c.steps)  # noqa: E731
      labels = jax.vmap(balanced, in_axes=(1, 1), out_axes=1)(after.rows, joint)
    video, audio = (jnp.swapaxes(outputs[name], 0, 1) for name in ("video", "audio"))
    loss = cross_modal_loss(video, audio, labels, labels, valid)
    uniform = jnp.log(jnp.float32(c.clusters))
    return Outcome(loss, uniform, outputs["features"], after)
