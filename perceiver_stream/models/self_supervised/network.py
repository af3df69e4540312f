"""Towers of video, sound and text, and heads, from which a method makes its network."""

from functools import cached_property

from jaxtyping import Array, Float, Int

from perceiver_stream.models.mmv import HeadConfig
from perceiver_stream.models.mmv.network import Head, Text
from perceiver_stream.models.self_supervised.config import Config
from perceiver_stream.models.towers import Tower, TowerOutput
from perceiver_stream.models.tsm_resnet import ResNetV2
from perceiver_stream.nn.debiased_batch_norm import NormMode
from perceiver_stream.nn.layers import Linear, haiku_normal


class Towers:
  """Towers and heads of one network, inside a Haiku transform.

  A part is made when it is first used, so that a network has only the parts of its method; calls by the
  same name share parameters.

  Attributes:
    config: Sizes.
    mode: Source of the statistics of batch norms; training also means that tokens may be dropped.
  """

  def __init__(self, config: Config, mode: NormMode):
    self.config, self.mode = config, mode
    self._heads: dict[str, Head] = {}
    self._linear: dict[str, Linear] = {}

  def video(self, clips: Float[Array, "B T H W 3"]) -> TowerOutput:
    """Returns the output of the tower of clips, RGB in [0, 1]."""
    return self._video(clips, self.mode)

  def audio(self, sounds: Float[Array, "B F M"]) -> TowerOutput:
    """Returns the output of the tower of log-mel spectrograms."""
    return self._audio(sounds[:, None, ..., None], self.mode)

  def text(self, words: Int[Array, "N W"]) -> Float[Array, "N S"]:
    """Returns features of captions, from frozen word vectors."""
    return self._text(words)

  def head(
    self, x: Float[Array, "B C"], name: str, *, dim: int = 0, norm_last: bool = False
  ) -> Float[Array, "B D"]:
    """Returns the output of an MLP with a hidden layer, a batch norm and a ReLU.

    Args:
      x: Features.
      name: Of the head.
      dim: Width of the output; 0: that of the common space.
      norm_last: Whether it ends in a batch norm.
    """
    if name not in self._heads:
      c = self.config
      sizes = HeadConfig(dim=dim or c.dim, hidden=(c.hidden_dim,), norm_last=norm_last)
      self._heads[name] = Head(sizes, name=name)
    return self._heads[name](x, self.mode)

  def linear(self, x: Float[Array, "*B C"], name: str, *, dim: int = 0) -> Float[Array, "*B D"]:
    """Returns a linear map of features; `dim` as in `head`."""
    if name not in self._linear:
      self._linear[name] = Linear(dim or self.config.dim, w_init=haiku_normal(), name=name)
    return self._linear[name](x)

  @cached_property
  def _video(self) -> Tower:
    return ResNetV2(self.config.video, name="video")

  @cached_property
  def _audio(self) -> Tower:
    return ResNetV2(self.config.audio, name="audio")

  @cached_property
  def _text(self) -> Text:
    c = self.config
    return Text(c.vocabulary, c.word_dim, c.sentence_dim, name="text")
