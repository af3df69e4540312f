"""Sizes of MMV: towers of video, sound and text, and the heads into their common spaces."""

from dataclasses import dataclass, field

from perceiver_stream.models import s3d, tsm_resnet
from perceiver_stream.types import Size

GRAPHS = ("fac", "fac_relu", "fac_bnrelu", "shared", "disjoint")


@dataclass(kw_only=True)
class HeadConfig:
  """One head into a common space.

  Attributes:
    dim: Width of the space.
    hidden: Widths of hidden layers, each with a ReLU; none is a linear map.
    norm_hidden: Whether a batch norm precedes each of those ReLUs.
    norm_last: Whether the head ends in a batch norm. The last map of a head with hidden layers then has
      no bias.
  """

  dim: Size = 512
  hidden: tuple[Size, ...] = ()
  norm_hidden: bool = True
  norm_last: bool = False


@dataclass(kw_only=True)
class Config:
  """Sizes of MMV; the defaults are those of the released TSM-ResNet-50.

  Attributes:
    video: Sizes of the video tower, TSM-ResNet (`.widened(2)` is the released width 2) or S3D-G.
    audio: Sizes of the audio tower.
    vocabulary: Words; their vectors are frozen.
    word_dim: Width of a word's vector.
    sentence_dim: Width of a text feature: the maximum over its words.
    graph: Common spaces. "fac" (fine and coarse): a space of video and sound, and from it, through
      `video_to_text`, one of all three; "fac_relu" and "fac_bnrelu" rectify the fine embedding first,
      the latter after a batch norm. "shared": one space of all, and one head for each modality.
      "disjoint": a space for each pair.
    video_to_text: Head of video, in the coarse space; in "fac" it reads the fine embedding.
    video_to_audio: Head of video, in the fine space.
    audio_to_video: Head of sound, in the fine space.
    audio_to_text: Head of sound in the space of text, used while `audio_text` is False in training.
    text_to_video: Head of text, in the coarse space.
    text_to_audio: Head of text in the space of sound; no loss uses it.
    audio_text: Whether sound passes through `video_to_text` in training too; its batch norms then see
      both.
  """

  video: tsm_resnet.Config | s3d.Config = field(default_factory=tsm_resnet.Config)
  audio: tsm_resnet.Config = field(default_factory=tsm_resnet.audio_config)
  vocabulary: Size = 65536
  word_dim: Size = 300
  sentence_dim: Size = 2048
  graph: str = "fac_relu"
  video_to_text: HeadConfig = field(default_factory=lambda: HeadConfig(dim=256, norm_last=True))
  video_to_audio: HeadConfig = field(
    default_factory=lambda: HeadConfig(hidden=(512,), norm_last=True)
  )
  audio_to_video: HeadConfig = field(default_factory=HeadConfig)
  audio_to_text: HeadConfig = field(default_factory=HeadConfig)
  text_to_video: HeadConfig = field(default_factory=lambda: HeadConfig(dim=256))
  text_to_audio: HeadConfig = field(default_factory=HeadConfig)
  audio_text: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    self.video.validate()
    self.audio.validate()
    if self.graph not in GRAPHS:
      raise ValueError(f"mmv: graph={self.graph!r} is not one of {GRAPHS}.")
    pairs = [("video_to_text", "text_to_video"), ("video_to_audio", "audio_to_video")]
    if self.graph == "shared":
      pairs += [(f"{m}_to_{a}", f"{m}_to_{b}") for m, a, b in _SHARED]
    for one, other in pairs:
      first, second = getattr(self, one), getattr(self, other)
      if first.dim != second.dim or (one.split("_")[0] == other.split("_")[0] and first != second):
        raise ValueError(
          f"mmv: {one}={first} and {other}={second} share a space"
          f"{' and a head' if self.graph == 'shared' else ''}; give them the same dim"
          f"{' and layers' if self.graph == 'shared' else ''}."
        )


_SHARED = (("video", "text", "audio"), ("audio", "video", "text"), ("text", "video", "audio"))
