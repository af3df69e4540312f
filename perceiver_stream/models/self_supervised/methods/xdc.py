"""XDC: clusters of sound are the labels of video, and clusters of video those of sound.

Source: Alwassel et al. 2020, 1911.12667; training code is not released, written from the paper. Clusters
are made of the newest features instead of those of a whole data set; centres start from the last ones,
so that numbers of clusters stay.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.models.self_supervised.methods import base, queue
from perceiver_stream.models.self_supervised.methods.base import (
  ClipAndSound,
  Outcome,
  Outputs,
  Views,
)
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.nn.losses.clustering import cross_modal_loss
from perceiver_stream.nn.losses.online_clustering import assigned, centred, moved_centres
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Clusters.

  Attributes:
    clusters: Number of clusters of each modality.
    size: Features that are clustered, the newest.
    every: Windows from one clustering to the next.
    steps: Steps of k-means.
    own_labels: If True, each modality learns from its own clusters (DeepCluster): the ablation.
  """

  clusters: Size = 8
  size: Size = 512
  every: Size = 10
  steps: Size = 10
  own_labels: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("xdc", self, "clusters", "size", "every", "steps")
    if self.clusters > self.size:
      raise ValueError(f"xdc: clusters={self.clusters} of size={self.size} features; use fewer.")


class Clusters(NamedTuple):
  """The newest features of one modality, and its clusters.

  Attributes:
    ring: Features, as the tower gives them.
    mean: Their mean at the last clustering.
    centres: Of unit length.
  """

  ring: queue.Ring
  mean: Float[Array, " D"]
  centres: Float[Array, "K D"]


class Xdc(ClipAndSound):
  """Labels of a window are by the centres after it was added; k-means runs in its first."""

  name, config_type = "xdc", Config

  @classmethod
  def nano(cls) -> Config:
    """Returns three clusters of two batches."""
    return Config(clusters=3, size=8, every=2, steps=2)

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns features and the logits of the clusters."""
    video = towers.video(views["clip"]).features
    audio = towers.audio(views["sound"]).features
    dim = self.config.clusters
    return {
      "video": video,
      "audio": audio,
      "video_logits": towers.linear(video, "video_classifier", dim=dim),
      "audio_logits": towers.linear(audio, "audio_classifier", dim=dim),
    }

  def first_memory(self, outputs: PyTree, rng: Array) -> PyTree:
    """Returns empty memories of both modalities and the count of windows."""
    del rng
    c, made = self.config, {}
    for name in ("video", "audio"):
      dim = outputs[name].shape[1]
      ring = queue.empty_ring(c.size, dim)
      made[name] = Clusters(ring, jnp.zeros(dim), jnp.zeros((c.clusters, dim)))
    return {**made, "windows": jnp.int32(0)}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean cross-entropy of both modalities' labels."""
    del slow
    after, labels = {"windows": memory["windows"] + 1}, {}
    for name in ("video", "audio"):
      features = base.without_gradient(outputs[name])
      after[name] = self._clustered(memory[name], features, memory["windows"], valid)
      labels[name] = assigned(centred(features, after[name].mean), after[name].centres)
    if self.config.own_labels:
      labels = {"video": labels["audio"], "audio": labels["video"]}
    loss = cross_modal_loss(
      outputs["video_logits"][None],
      outputs["audio_logits"][None],
      labels["video"][:, None],
      labels["audio"][:, None],
      valid,
    )
    return Outcome(loss, jnp.log(jnp.float32(self.config.clusters)), outputs["video"], after)

  def _clustered(
    self,
    clusters: Clusters,
    features: Float[Array, "B D"],
    windows: Int[Array, ""],
    valid: Bool[Array, " B"],
  ) -> Clusters:
    """Returns the memory with the features of a window, clustered anew if it is time."""
    c, ring = self.config, queue.put(clusters.ring, features, valid)

    def fitted() -> Clusters:
      known = ring.known[:, None]
      mean = jnp.sum(jnp.where(known, ring.rows, 0.0), axis=0) / jnp.maximum(
        ring.filled.astype(jnp.float32), 1.0
      )
      x = centred(ring.rows, mean)
      first = x[jnp.arange(c.clusters) % jnp.maximum(ring.filled, 1)]
      start = jnp.where(windows == 0, first, clusters.centres)
      return Clusters(ring, mean, moved_centres(x, start, ring.known, c.steps))

    keep = clusters._replace(ring=ring)
    return jax.lax.cond(windows % c.every == 0, fitted, lambda: keep)
