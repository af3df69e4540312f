"""Sizes of TAPNext; defaults are the released B model."""

import dataclasses
import math
from dataclasses import dataclass, field

from perceiver_stream.core.lru import GatedLruConfig
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig
from perceiver_stream.types import Size

FLAVOURS = ("jax", "torch")


@dataclass(kw_only=True)
class Config:
  """Sizes of TAPNext; defaults are the released B model.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    patch: Rows and columns of a patch; each patch is a token.
    table: Rows and columns of the position tables, and of the pixels in which positions are
      expressed inside; frames of another size have as many positions of patches, interpolated.
    backbone: Sizes of the backbone.
    bins: Bins of a coordinate, one per pixel of the table and axis.
    head_dim: Width of the hidden layers of both heads.
    flavour: `"jax"` (TAPNext, BootsTAPNext) or `"torch"` (TAPNext++): GELUs, epsilons, borders of
      the table, and the rule of visibility.
  """

  height: Size = 256
  width: Size = 256
  patch: Size = 8
  table: tuple[Size, Size] = (256, 256)
  backbone: RecurrentVitConfig = field(
    default_factory=lambda: RecurrentVitConfig(
      time_mlp_dim=3072, lru=GatedLruConfig.released(768, 12)
    )
  )
  bins: Size = 256
  head_dim: Size = 256
  flavour: str = "jax"

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.flavour not in FLAVOURS:
      raise ValueError(f"tapnext: flavour={self.flavour!r}; use one of {FLAVOURS}.")
    for what, size in (("frames", (self.height, self.width)), ("table", self.table)):
      if any(side % self.patch for side in size):
        raise ValueError(
          f"tapnext: {what} of {size[0]}×{size[1]} are not a whole number of {self.patch}×"
          f"{self.patch} patches; change height, width, table or patch."
        )
    if self.backbone.dim % 4:
      raise ValueError(f"tapnext: backbone.dim={self.backbone.dim} is not a multiple of 4.")
    if self.bins < max(self.table):
      raise ValueError(f"tapnext: bins={self.bins} do not cover a table of {self.table}.")

  @property
  def table_numbers(self) -> int:
    """Numbers in the fixed table of positions."""
    return math.prod(self.table) * self.backbone.dim

  @property
  def exact(self) -> bool:
    """True if MLPs in space and heads have the exact GELU."""
    return self.flavour == "torch"

  @property
  def eps(self) -> float:
    """Added to the variance in the final norm and in those of the heads."""
    return 1e-5 if self.flavour == "torch" else 1e-6

  @property
  def radius(self) -> int:
    """Radius in pixels around a position within which its certainty is summed."""
    return 8 if self.flavour == "torch" else 6

  def grid(self) -> tuple[int, int]:
    """Returns rows and columns of patches of a frame."""
    return self.height // self.patch, self.width // self.patch

  def in_space(self) -> RecurrentVitConfig:
    """Returns the sizes of the backbone, with the GELU of the flavour."""
    return dataclasses.replace(self.backbone, exact_gelu=self.exact)
