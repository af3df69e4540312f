"""Tables of positions for other sizes, and for videos from those of images, as scenic loads them."""

import numpy as np
from jaxtyping import Float


def tiled(table: Float[np.ndarray, "N D"], times: int) -> Float[np.ndarray, "L D"]:
  """Returns an image model's table, repeated for each time; tokens are (time, place)."""
  return np.tile(table, (times, 1))


def interpolated(
  table: Float[np.ndarray, "N D"], old: tuple[int, ...], new: tuple[int, ...]
) -> Float[np.ndarray, "M D"]:
  """Returns a table for another grid, by linear interpolation along every axis.

  The first and last positions of an axis stay (`scipy.ndimage.zoom` of order 1 with its default grid).

  Args:
    table: One row for each place of the old grid, row by row.
    old: Sizes of the old grid, one for each axis; their product is N.
    new: Sizes of the new grid.
  """
  grid = table.reshape(*old, table.shape[-1])
  for axis, size in enumerate(new):
    last = grid.shape[axis] - 1
    place = np.arange(size) * (last / max(size - 1, 1))
    low = np.minimum(place.astype(int), max(last - 1, 0))
    share = (place - low).reshape([-1 if i == axis else 1 for i in range(grid.ndim)])
    after = np.take(grid, np.minimum(low + 1, last), axis)
    grid = np.take(grid, low, axis) * (1 - share) + after * share
  return grid.reshape(-1, table.shape[-1]).astype(table.dtype)
