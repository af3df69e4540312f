"""Sizes of BraVe: towers, shared projector and predictor, and the two views."""

from dataclasses import dataclass, field

from perceiver_stream.models import tsm_resnet
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Sizes of BraVe; the defaults are those of the release with video and sound in the broad view.

  Attributes:
    video: Sizes of both video towers; `.widened(2)` is the released width 2.
    audio: Sizes of the audio tower.
    broad_video: Whether the broad view has video.
    broad_audio: Whether the broad view has sound.
    hidden_dim: Hidden width of projector and predictor.
    output_dim: Width of projections and predictions.
    norm_last: Whether the projector ends in a batch norm, as released. It turns the total collapse
      of an ablation into a partial one.
  """

  video: tsm_resnet.Config = field(default_factory=tsm_resnet.Config)
  audio: tsm_resnet.Config = field(default_factory=tsm_resnet.audio_config)
  broad_video: bool = True
  broad_audio: bool = True
  hidden_dim: Size = 4096
  output_dim: Size = 128
  norm_last: bool = True

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    self.video.validate()
    self.audio.validate()
    if not (self.broad_video or self.broad_audio):
      raise ValueError(
        "brave: broad_video and broad_audio are both False; the broad view is empty."
      )
    widths = self.video.stage_channels[-1], self.audio.stage_channels[-1]
    if self.broad_audio and widths[0] != widths[1]:
      raise ValueError(
        f"brave: video features have width {widths[0]} and audio features {widths[1]}, but one "
        f"projector reads both (the released width 2 with sound cannot train for this reason); make "
        f"the last stage_channels equal, or set broad_audio=False."
      )
