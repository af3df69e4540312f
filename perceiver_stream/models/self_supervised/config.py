"""Sizes of towers and heads that all methods share."""

from dataclasses import dataclass, field

from perceiver_stream.models import tsm_resnet
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Sizes; the defaults are those of ResNet-50 towers.

  Attributes:
    video: Sizes of the tower of clips.
    audio: Sizes of the tower of log-mel spectrograms.
    hidden_dim: Hidden width of heads.
    dim: Width of the space in which samples are compared.
    vocabulary: Words; their vectors are frozen.
    word_dim: Width of a word's vector.
    sentence_dim: Width of a caption's feature.
  """

  video: tsm_resnet.Config = field(default_factory=tsm_resnet.Config)
  audio: tsm_resnet.Config = field(default_factory=tsm_resnet.audio_config)
  hidden_dim: Size = 512
  dim: Size = 128
  vocabulary: Size = 65536
  word_dim: Size = 300
  sentence_dim: Size = 2048

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    self.video.validate()
    self.audio.validate()
