"""CoCLR: positives of a clip are also those whose sound is alike, and the reverse.

Source: Han et al. 2020, 2010.09709; TengdaHan/CoCLR. The other modality is sound instead of flow, and
both learn at once instead of in turns, each from the other's slow encoder, once the queue is full.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses import coclr
from perceiver_stream.nn.losses.contrastive import queue_logits, unit_length
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Queue and mining.

  Attributes:
    size: Keys in the queue, a multiple of the rows of a window.
    top_k: Positives that are mined; 0: none, MoCo in both modalities.
    momentum: Of the slow encoders.
    temperature: Divides the similarities.
  """

  size: Size = 512
  top_k: int = 5
  momentum: float = 0.99
  temperature: float = 0.07

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("coclr", self, "temperature", "size")
    base.check_share("coclr", self, "momentum")
    if not 0 <= self.top_k < self.size:
      raise ValueError(f"coclr: top_k={self.top_k} of size={self.size} keys; use 0 to size - 1.")


class CoClr(Method):
  """Views of sound are the halves of the window."""

  name, config_type = "coclr", Config
  needs = ("pixels", "audio")

  @classmethod
  def nano(cls) -> Config:
    """Returns a queue of two batches."""
    return Config(size=8, top_k=2, momentum=0.9)

  @property
  def momentum(self) -> float:
    """Momentum of the encoders of keys."""
    return self.config.momentum

  def views(self, moments: Moments) -> Views:
    """Returns two clips and two halves of the sound."""
    half = max(moments.ticks // 2, 1)
    sounds = {"sound": moments.sound(0, half), "late": moments.sound(moments.ticks - half, half)}
    return {"clip": moments.clip(), "other": moments.clip(), **sounds}

  def slow_views(self, views: Views) -> Views:
    """Returns the other clip and the other half."""
    return {"clip": views["other"], "sound": views["late"]}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the embeddings of a clip and a sound, unit length."""
    video = towers.head(towers.video(views["clip"]).features, "video_head")
    audio = towers.head(towers.audio(views["sound"]).features, "audio_head")
    return {"video": unit_length(video), "audio": unit_length(audio)}

  def first_memory(self, outputs: PyTree, rng: Array) -> PyTree:
    """Returns the queue, keys of video and, as others, of sound, and the count of windows."""
    memory = coclr.empty_memory(rng, self.config.size, outputs["video"].shape[1])
    return {"queue": memory, "windows": jnp.int32(0)}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean of both modalities' losses; every row of a window is a video of its own."""
    queue, c, rows = memory["queue"], self.config, valid.size
    videos = memory["windows"] * rows + jnp.arange(rows, dtype=jnp.int32)
    swapped = queue._replace(keys=queue.others, others=queue.keys)
    total = jnp.float32(0)
    for own, other, ring in (("video", "audio", queue), ("audio", "video", swapped)):
      positives = coclr.positives(ring, slow[other], videos, top_k=c.top_k)
      logits = queue_logits(outputs[own], slow[own], ring.keys, temperature=c.temperature)
      total = total + coclr.mined_loss(logits, positives, valid)
    after = coclr.enqueue(queue, slow["video"], slow["audio"], videos, valid)
    uniform = jnp.log(jnp.float32((1 + c.size) / (1 + c.top_k)))
    after = {"queue": after, "windows": memory["windows"] + 1}
    return Outcome(total / 2, uniform, outputs["video"], after)
