"""Named sizes of BraVe, and its record for the training loop."""

from perceiver_stream.models.brave.config import Config
from perceiver_stream.models.family import Card, Family, config_only
from perceiver_stream.models.tsm_resnet import Config as TowerConfig


def _small(stem: int, channels: tuple[int, ...], hidden: int, output: int) -> Config:
  sizes = {
    "stem_channels": stem,
    "stage_channels": channels,
    "stage_blocks": (1,) * len(channels),
    "stage_strides": (1, *[2] * (len(channels) - 1)),
  }
  return Config(
    video=TowerConfig(**sizes),
    audio=TowerConfig(**sizes, shift_share=0.0),
    broad_video=False,
    hidden_dim=hidden,
    output_dim=output,
  )


def nano() -> Config:
  """Returns the sizes for tests."""
  return _small(8, (8, 8), 8, 8)


def tiny() -> Config:
  """Returns the sizes for a CPU: four blocks, sound as the broad view."""
  return _small(16, (16, 32, 48, 64), 128, 32)


FAMILY = Family(
  name="brave",
  config=Config,
  build=config_only(
    "brave: towers of whole clips do not run tick by tick. Use models.brave.build(config), or "
    "zoo.clip_encoders `tsm_resnet` for its narrow tower."
  ),
  fit=lambda config, specs: config,
  variants={"nano": nano, "tiny": tiny, "released": Config},
  card=Card(
    summary="Two views of a moment, a narrow clip and a broad one or its sound, predict each other.",
    paper="Broaden Your Views for Self-Supervised Video Learning (2103.16559)",
    code="google-deepmind/brave (Apache-2.0)",
    inputs="pixels and, for a broad view with sound, audio",
    limits="Towers of whole clips: not causal, and no stream model.",
  ),
  objective="perceiver_stream.models.brave.objective.BroadenViews",
)
