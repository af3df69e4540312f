"""MMV: video and sound in a fine space, and from it video and captions in a coarse one.

Source: Alayrac et al. 2020, 2006.16228; heads of the released network (`models.mmv`), the loss of the
paper. A row without captions counts with its sound only.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.contrastive import unit_length
from perceiver_stream.nn.losses.multiple_instance import asymmetric_nce
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Captions and weights.

  Attributes:
    candidates: Captions of a clip, from ticks spread evenly over the window.
    temperature: Divides the similarities.
    text_weight: Weight of the term of captions; 0: without captions.
  """

  candidates: Size = 4
  temperature: float = 0.07
  text_weight: float = 1.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("mmv", self, "candidates", "temperature")
    base.check_share("mmv", self, "text_weight")


class Mmv(Method):
  """Fine and coarse spaces (FAC), the embedding of video rectified between them."""

  name, config_type = "mmv", Config
  needs, optional = ("pixels", "audio"), ("caption",)
  stream = {"wrong_captions": 0.5}

  def views(self, moments: Moments) -> Views:
    """Returns a clip, its sound, its candidates, and True for rows that have some."""
    views = {"clip": moments.clip(), "sound": moments.sound(), "has_text": moments.has["caption"]}
    words = moments.captions(self.config.candidates) if moments.holds("caption") else None
    return views if words is None else views | {"words": words}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns embeddings of unit length in both spaces."""
    fine = towers.head(towers.video(views["clip"]).features, "video_to_audio", norm_last=True)
    audio = towers.linear(towers.audio(views["sound"]).features, "audio_to_video")
    found = {"fine": unit_length(fine), "audio": unit_length(audio), "has_text": views["has_text"]}
    if "words" not in views:
      return found
    words = views["words"]
    coarse = towers.linear(jax.nn.relu(fine), "video_to_text")
    text = towers.linear(towers.text(words.reshape(-1, words.shape[-1])), "text_to_video")
    text = text.reshape(*words.shape[:2], -1)
    return found | {"coarse": unit_length(coarse), "text": unit_length(text)}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the sum of both terms."""
    del slow, memory
    c, num = self.config, base.num_rows(valid)
    options = {"temperature": c.temperature, "rows": valid}
    loss = asymmetric_nce(outputs["fine"], outputs["audio"][:, None], **options)
    uniform = base.logarithm(num, 2.0)
    if "text" in outputs and c.text_weight:
      has = valid & outputs["has_text"]
      term = asymmetric_nce(outputs["coarse"], outputs["text"], valid=has, **options)
      loss = loss + c.text_weight * term
      share = jnp.where(jnp.any(has), c.text_weight, 0.0)
      uniform = uniform + share * base.logarithm(num, 2.0)
    return Outcome(loss, uniform, outputs["fine"])
