"""Sizes of an agent that acquires modalities."""

from dataclasses import dataclass, field

from perceiver_stream.core import CORES, CoreConfig, GatedConfig, PositionedConfig
from perceiver_stream.modalities import ModalityConfig
from perceiver_stream.types import Size


def small_core() -> GatedConfig:
  """Returns the core of the miniature: 2 latents of width 32, gated mixes of tokens and state."""
  return GatedConfig(num_latents=2, latent_dim=32, num_heads=1, num_layers=0)


@dataclass(kw_only=True)
class Config:
  """Sizes of an agent.

  Attributes:
    modalities: Modalities that can be acquired, by name.
    num_classes: Classes that it predicts.
    num_ticks: Ticks of an episode, T.
    core: Of the latents; a config in `core.CORES` without positions.
    token_dim: Width of tokens.
  """

  modalities: dict[str, ModalityConfig] = field(default_factory=dict)
  num_classes: Size = 4
  num_ticks: Size = 16
  core: CoreConfig = field(default_factory=small_core)
  token_dim: Size = 32

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if not self.modalities or self.num_ticks < 2 or self.num_classes < 2:
      raise ValueError(
        f"a2mt: modalities {sorted(self.modalities)}, num_ticks={self.num_ticks}, num_classes="
        f"{self.num_classes}; use at least one modality, 2 ticks and 2 classes."
      )
    allowed = [kind for kind in CORES if kind is not PositionedConfig]
    if type(self.core) not in allowed:
      raise ValueError(
        f"a2mt: core is a {type(self.core).__name__}; use one of "
        f"{sorted(kind.__name__ for kind in allowed)}."
      )
    self.core.validate()
