"""MIL-NCE: a clip and its captions, any of which may be wrong, find each other in the batch.

Source: Miech et al. 2020, 1912.06430; MIL-NCE_HowTo100M, `loss.py`: raw products, without temperature.
"""

from dataclasses import dataclass

from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.multiple_instance import mil_nce
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Captions of a clip, from ticks spread evenly over the window."""

  candidates: Size = 4

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("mil_nce", self, "candidates")


class MilNce(Method):
  """Candidates count by the sum of their exponentials."""

  name, config_type = "mil_nce", Config
  needs = ("pixels", "caption")
  stream = {"wrong_captions": 0.5}

  def views(self, moments: Moments) -> Views:
    """Returns a clip and its candidates."""
    return {"clip": moments.clip(), "words": moments.captions(self.config.candidates)}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the embeddings of clips `[B, D]` and of candidates `[B, C, D]`."""
    words = views["words"]
    text = towers.text(words.reshape(-1, words.shape[-1]))
    text = towers.linear(text, "text_head").reshape(*words.shape[:2], -1)
    return {
      "video": towers.linear(towers.video(views["clip"]).features, "video_head"),
      "text": text,
    }

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns MIL-NCE."""
    del slow, memory
    loss = mil_nce(outputs["video"], outputs["text"], rows=valid)
    return Outcome(loss, base.logarithm(base.num_rows(valid), 2.0), outputs["video"])
