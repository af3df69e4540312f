"""Base of image-like modalities: a grid of square cells."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.modalities.base import Modality, ModalityConfig, Queries, cell_index
from perceiver_stream.modalities.memory import Memory
from perceiver_stream.modalities.sources import mean_of_warps, sampled
from perceiver_stream.nn import CellMotion, patchify, unpatchify
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

  def head(
    self,
    decoded: Float[Array, "B Q E"],
    memory: Memory,
    derived: Any,
    queries: Queries,
    motion: CellMotion | None = None,
  ) -> dict[str, Float[Array, "B Q ..."]]:
    """Returns the prediction for each queried cell; with untrained parameters, a copy.

    With `motion`, the copy is warped by it: the mean over what each flow points to.
    """
    if motion is None:
      return super().head(decoded, memory, derived, queries)
    image = self.copy(memory.last)
    image = image if image.ndim == 4 else image[..., None]
    place = self._pixel_index(queries.positions)
    flows, weights = self._carried(motion, place, queries.displacement)
    moved = mean_of_warps(sampled(image, place, flows), weights)
    last = moved.reshape(*moved.shape[:4], *self.copy(memory.last).shape[3:])
    cell = cell_index(queries.positions, self.grid_shape())
    return {self.name: self._changed(last, decoded, memory, cell)}

  def _carried(
    self, motion: CellMotion, index: Float[Array, "Q p p 2"], ticks: Float[Array, " Q"]
  ) -> tuple[Float[Array, "B Q p p K 2"], Float[Array, "B Q p p K"]]:
    """Returns flows and weights of each pixel, `CellMotion.flows`, limited to the image's size."""
    size = jnp.asarray([self.config.height, self.config.width], jnp.float32)
    place = (index + 0.5) * (2 / jnp.broadcast_to(size, index.shape)) - 1
    flows, weights = motion.flows(place, ticks, (self.config.height, self.config.width))
    reach = float(max(self.config.height, self.config.width))
    return jnp.clip(flows, -reach, reach), weights

  def _pixel_index(self, positions: Float[Array, "Q 2"]) -> Float[Array, "Q p p 2"]:
    """Returns array indices (row, column) of the pixels around each cell centre."""
    c = self.config
    size = jnp.asarray([c.height, c.width], jnp.float32)
    centre = (positions + 1) * (jnp.broadcast_to(size, positions.shape) / 2) - 0.5
    inside = np.moveaxis(np.mgrid[: c.patch, : c.patch], 0, -1) - (c.patch - 1) / 2  # [p, p, 2]
    shape = (positions.shape[0], c.patch, c.patch, 2)
    inside = jnp.broadcast_to(jnp.asarray(inside, jnp.float32), shape)
    return jnp.broadcast_to(centre[:, None, None, :], shape) + inside

  def channels(self, memory: Memory, derived: Any) -> Float[Array, "B H W C"]:
    """Returns the inputs of the tokens: newest value, change, difference from the slow average."""
    del derived
    last, previous = self.copy(memory.last), self.copy(memory.previous)
    parts = [last, last - previous, memory.slow - last]
    return jnp.concatenate([x if x.ndim == 4 else x[..., None] for x in parts], axis=-1)

  def _cells(self, memory: Memory, derived: Any) -> Float[Array, "B N F"]:
    patches = patchify(self.channels(memory, derived), self.config.patch)
    return patches.reshape(patches.shape[0], -1, patches.shape[-1])
