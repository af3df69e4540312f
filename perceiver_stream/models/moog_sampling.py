"""Which pixels MooG decodes to train: every few rows and columns of a grid that is rolled."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def sampled_cells(
  shape: tuple[int, int], every: int, offsets: Int[Array, "B 2"]
) -> Int[Array, "B N"]:
  """Returns which pixels are decoded: every `every`-th row and column of a rolled grid.

  The grid is rolled by the offset, then index `every * i + every // 2` is kept: pixel
  `every * i + every // 2 - offset`, modulo the size. Flat row-major indices.

  Args:
    shape: Rows and columns of the frame.
    every: 0 and 1 keep all.
    offsets: Row and column, per batch row.
  """
  every = max(every, 1)
  axes = []
  for axis, size in enumerate(shape):
    kept = jnp.arange(size // every) * every + every // 2
    axes.append((kept[None] - offsets[:, axis : axis + 1]) % size)
  rows, columns = axes
  return (rows[:, :, None] * shape[1] + columns[:, None, :]).reshape(offsets.shape[0], -1)


def sampled(picture: Float[Array, "B H W C"], cells: Int[Array, "B N"]) -> Float[Array, "B N C"]:
  """Returns the pixels at flat indices."""
  flat = picture.reshape(picture.shape[0], -1, picture.shape[-1])
  return jnp.take_along_axis(flat, cells[..., None], axis=1)
