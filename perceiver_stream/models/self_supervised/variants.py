"""Named sizes of the towers, and the record for the training loop."""

from perceiver_stream.models.family import Card, Family, config_only
from perceiver_stream.models.self_supervised.config import Config
from perceiver_stream.models.tsm_resnet import Config as TowerConfig


def _small(channels: tuple[int, ...], strides: tuple[int, ...], dim: int) -> Config:
  sizes = {
    "stem_channels": channels[0],
    "stage_channels": channels,
    "stage_blocks": (1,) * len(channels),
    "stage_strides": strides,
  }
  return Config(
    video=TowerConfig(**sizes, shift_share=0.25),
    audio=TowerConfig(**sizes, shift_share=0.0),
    hidden_dim=2 * dim,
    dim=dim,
    vocabulary=64,
    word_dim=16,
    sentence_dim=2 * dim,
  )


def nano() -> Config:
  """Returns the sizes for tests."""
  return _small((8,), (1,), 8)


def tiny() -> Config:
  """Returns the sizes for a CPU: two blocks."""
  return _small((16, 32), (1, 2), 32)


FAMILY = Family(
  name="self_supervised",
  config=Config,
  build=config_only(
    "self_supervised: towers of whole clips do not run tick by tick. Train them by their objective, "
    "and take features from its clip_features."
  ),
  fit=lambda config, specs: config,
  variants={"nano": nano, "tiny": tiny, "resnet50": Config},
  card=Card(
    summary="Towers of video, sound and text that learn without labels, by any method of a list.",
    paper="SimCLR, MoCo, CLIP, L3, AVTS, and others: each file in methods/ names its source",
    inputs="pixels; audio and captions for methods across modalities",
    limits="Towers of whole clips: not causal, and no stream model.",
  ),
  objective="perceiver_stream.models.self_supervised.objective.SelfSupervised",
)
