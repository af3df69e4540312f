"""AVTS: sound in sync is near its clip, other sound far; first of other clips, then also shifted.

Source: Korbar et al. 2018, 1807.00230; no code is released, written from the paper.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.contrastive import unit_length
from perceiver_stream.nn.losses.synchronisation import margin_loss
from perceiver_stream.types import Range


@dataclass(kw_only=True)
class Config:
  """Margin and curriculum.

  Attributes:
    margin: Distance from which negatives have no loss.
    easy_windows: Windows in which all negatives are of other recordings.
    hard_share: Share of negatives that are the clip's own sound, half a window later, after that.
  """

  margin: float = 0.99
  easy_windows: Annotated[int, Range(0, 2**31 - 1)] = 100
  hard_share: float = 0.25

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("avts", self, "margin")
    base.check_share("avts", self, "hard_share")


class Avts(Method):
  """Clip and sound are the first half of a window. Embeddings have unit length (ours)."""

  name, config_type = "avts", Config
  needs = ("pixels", "audio")

  @classmethod
  def nano(cls) -> Config:
    """Returns a curriculum of one easy window."""
    return Config(easy_windows=1, hard_share=0.5)

  def views(self, moments: Moments) -> Views:
    """Returns a clip, both halves of the sound, the row of another sound, and draws of hardness."""
    half = max(moments.ticks // 2, 1)
    sounds = jnp.concatenate([moments.sound(0, half), moments.sound(moments.ticks - half, half)])
    draws = jax.random.uniform(moments.key(), moments.valid.shape)
    clip = moments.clip(0, half)
    return {"clip": clip, "sounds": sounds, "partner": moments.partner, "draws": draws}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the embeddings of the clip, of its sound and of both kinds of negatives."""
    video = unit_length(towers.head(towers.video(views["clip"]).features, "video_head"))
    audio = unit_length(towers.head(towers.audio(views["sounds"]).features, "audio_head"))
    own, later = base.halves(audio)
    hard = views["draws"] < self.config.hard_share
    return {"video": video, "own": own, "easy": own[views["partner"]], "late": later, "hard": hard}

  def first_memory(self, outputs: PyTree, rng: Array) -> PyTree:
    """Returns the count of windows."""
    del outputs, rng
    return jnp.int32(0)

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean of positives and negatives."""
    del slow
    hard = outputs["hard"] & (memory >= self.config.easy_windows)
    negative = jnp.where(hard[:, None], outputs["late"], outputs["easy"])
    video, audio = (
      jnp.concatenate(x) for x in ([outputs["video"]] * 2, [outputs["own"], negative])
    )
    in_sync = jnp.arange(2 * valid.size) < valid.size
    twice = jnp.concatenate([valid, valid])
    loss = margin_loss(video, audio, in_sync, margin=self.config.margin, valid=twice)
    uniform = jnp.float32(self.config.margin**2 / 4)
    return Outcome(loss, uniform, outputs["video"], memory + 1)
