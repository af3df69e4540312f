"""Base of image-like modalities: a grid of square cells."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.modalities.base import Modality, ModalityConfig
from perceiver_stream.modalities.memory import Memory
from perceiver_stream.nn import patchify, unpatchify
from perceiver_stream.types import ModalitySpec, Positive, Size


@dataclass(kw_only=True)
class DenseConfig(ModalityConfig):
  """Sizes of an image.

  Attributes:
    height: Rows.
    width: Columns.
    rate_hz: Images per second.
    patch: Side of a cell: one token and one query per cell.
  """

  height: Size = 64
  width: Size = 64
  rate_hz: Positive = 25.0
  patch: Size = 4

  def fitted(self, spec: ModalitySpec) -> "DenseConfig":
    """Returns this config with the rows, columns and rate of `spec`."""
    height, width = spec.shape[:2]
    return replace(self, height=height, width=width, rate_hz=spec.rate_hz)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    for side, size in (("height", self.height), ("width", self.width)):
      if size % self.patch:
        low, high = size // self.patch * self.patch, -(-size // self.patch) * self.patch
        raise ValueError(
          f"{type(self).__module__.rsplit('.', 1)[-1]}: image {side} {size} is not a multiple "
          f"of patch={self.patch}; use {low} or {high}, or change patch."
        )


class Dense(Modality):
  """An image `[H, W, C]` (or `[H, W]`) divided into cells of `patch`² pixels."""

  def grid_shape(self) -> tuple[int, ...]:
    """Cells by row and column."""
    return (self.config.height // self.config.patch, self.config.width // self.config.patch)

  def split(self, prediction: Float[Array, "B H W ..."]) -> Float[Array, "B Q p p ..."]:
    """Returns the cells of an image, row-major."""
    p, channels = self.config.patch, prediction.shape[3:]
    patches = patchify(prediction if channels else prediction[..., None], p)
    return patches.reshape(patches.shape[0], -1, p, p, *channels)

  def assemble(self, cells: Float[Array, "B Q p p ..."]) -> Float[Array, "B H W ..."]:
    """Returns the image assembled from all its cells."""
    patches = cells.reshape(cells.shape[0], *self.grid_shape(), -1)
    image = unpatchify(patches, self.config.patch)
    return image.reshape(*image.shape[:3], *cells.shape[4:])

  def channels(self, memory: Memory, derived: Any) -> Float[Array, "B H W C"]:
    """Returns the inputs of the tokens: newest value, change, difference from the slow average."""
    del derived
    last, previous = self.copy(memory.last), self.copy(memory.previous)
    parts = [last, last - previous, memory.slow - last]
    return jnp.concatenate([x if x.ndim == 4 else x[..., None] for x in parts], axis=-1)

  def _cells(self, memory: Memory, derived: Any) -> Float[Array, "B N F"]:
    patches = patchify(self.channels(memory, derived), self.config.patch)
    return patches.reshape(patches.shape[0], -1, patches.shape[-1])
