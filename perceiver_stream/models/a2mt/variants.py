"""Named sizes of A2MT's agent, and its record for the training loop."""

from collections.abc import Mapping
from dataclasses import replace

from perceiver_stream.core import GatedConfig
from perceiver_stream.modalities import ModalityConfig, pixels, vector
from perceiver_stream.models.a2mt.config import Config
from perceiver_stream.models.family import Card, Family, config_only
from perceiver_stream.types import ModalitySpec


def _countdown() -> dict[str, ModalityConfig]:
  """Returns the modalities of `streams.countdown`."""
  image = pixels.Config(height=8, width=8, patch=8, rate_hz=4.0, motion_levels=1)
  return {"clock": vector.Config(size=8, rate_hz=4.0), "pixels": image}


def nano() -> Config:
  """Returns the sizes for tests."""
  core = GatedConfig(num_latents=2, latent_dim=16, num_heads=1, num_layers=0)
  return Config(modalities=_countdown(), core=core, token_dim=16, num_ticks=8)


def tiny() -> Config:
  """Returns the sizes of the miniature: episodes of 16 ticks of `streams.countdown`."""
  return Config(modalities=_countdown(), num_ticks=16)


def fitted(config: Config, specs: Mapping[str, ModalitySpec]) -> Config:
  """Returns the config with the sizes of a stream's observations.

  Raises:
    ValueError: The stream lacks a modality of the agent, or has more classes.
  """
  missing = sorted(set(config.modalities) - set(specs))
  if missing:
    raise ValueError(f"a2mt: the stream has no {missing}; it has {sorted(specs)}.")
  label = specs.get("label")
  if label is not None and label.maximum >= config.num_classes:
    raise ValueError(
      f"a2mt: labels of the stream go to {label.maximum:g}, but num_classes={config.num_classes}; "
      f"set model.num_classes to {label.maximum + 1:g}."
    )
  return replace(config, modalities={n: m.fitted(specs[n]) for n, m in config.modalities.items()})


FAMILY = Family(
  name="a2mt",
  config=Config,
  build=config_only(
    "a2mt: an agent chooses what it observes. Use models.a2mt.build(config) and its rollout."
  ),
  fit=fitted,
  variants={"nano": nano, "tiny": tiny},
  card=Card(
    summary="An agent that pays for each tick of a modality that it observes, and names a class.",
    paper="A2MT: active acquisition for multimodal temporal data (2211.05039)",
    inputs="any modalities of a stream with a label",
    limits="Our reading of the abstract; the recurrence and the price as an input are ours.",
  ),
  objective="perceiver_stream.models.a2mt.objective.PaidAcquisition",
)
