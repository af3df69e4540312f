"""GDT: contrasts of transformed clips and their sound: reversal in time, and a shift in time.

Source: Patrick et al. 2021, 2003.04298; facebookresearch/GDT. A variant hypothesis distinguishes a
transformation, an invariant one ignores it; see `nn.losses.gdt`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses import gdt
from perceiver_stream.nn.losses.contrastive import unit_length


@dataclass(kw_only=True)
class Config:
  """Hypothesis and temperature.

  Attributes:
    hypothesis: 1 base; 2, 3 distinguish or ignore reversal; 4, 5 shifts; 6 to 9 both: vv, iv, vi, ii.
    temperature: Divides the similarities.
  """

  hypothesis: int = 9
  temperature: float = 0.07

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    gdt.comparisons(self.hypothesis)
    base.check_positive("gdt", self, "temperature")


class Gdt(Method):
  """Clips and sound are half a window; shifted ones are the other half. All crops are the same draw."""

  name, config_type = "gdt", Config
  needs = ("pixels", "audio")

  @classmethod
  def nano(cls) -> Config:
    """Returns a hypothesis with one transformation."""
    return Config(hypothesis=2)

  @property
  def transformations(self) -> list[str]:
    """Names of the transformations of the hypothesis, in order."""
    compared = gdt.comparisons(self.config.hypothesis)
    return sorted({name for c in compared for name in (c.first, c.second) if name})

  def views(self, moments: Moments) -> Views:
    """Returns clips and sounds of all transformations, one batch each."""
    half = max(moments.ticks // 2, 1)
    clips, sounds = [], []
    for name in self.transformations:
      is_reversed = name in (gdt.REVERSED, gdt.BOTH)
      first = moments.ticks - half if name in (gdt.SHIFTED, gdt.BOTH) else 0
      clip = moments.clip(first, half)
      clips.append(clip[:, ::-1] if is_reversed else clip)
      sounds.append(moments.sound(first, half, backwards=is_reversed))
    return {"clips": jnp.concatenate(clips), "sounds": jnp.concatenate(sounds)}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the embeddings of all, unit length, transformations first."""
    video = towers.head(towers.video(views["clips"]).features, "video_head")
    audio = towers.head(towers.audio(views["sounds"]).features, "audio_head")
    split = lambda x: unit_length(x).reshape(len(self.transformations), -1, x.shape[-1])  # noqa: E731
    return {"video": split(video), "audio": split(audio)}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the mean of the hypothesis' comparisons."""
    del slow, memory
    c, names = self.config, self.transformations
    pairs = {
      name: gdt.Pair(outputs["video"][i], outputs["audio"][i]) for i, name in enumerate(names)
    }
    loss = gdt.gdt_loss(pairs, c.hypothesis, temperature=c.temperature, valid=valid)
    columns = [1 + (x.kind == gdt.VARIANT) for x in gdt.comparisons(c.hypothesis)]
    num = base.num_rows(valid)
    uniform = jnp.mean(jnp.stack([base.logarithm(num, float(n)) for n in columns]))
    return Outcome(loss, uniform, pairs[gdt.NORMAL].video)
