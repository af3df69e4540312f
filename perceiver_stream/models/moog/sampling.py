"""Positions of MooG's tokens and pixels, and the pixels decoded in training."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_stream.nn import Linear, coordinates, fourier_octaves
from perceiver_stream.nn.positions import coordinates_float32


def sampled_cells(
  shape: tuple[int, int], every: int, offsets: Int[Array, "B 2"]
) -> Int[Array, "B N"]:
  """Returns the indices of the decoded pixels: every `every`-th row and column of a rolled grid.

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


def place(x: Float[Array, "B N C"], positions: Float[Array, "B N P"], *, add: bool) -> Array:
  """Returns features with their positions, concatenated or projected and added."""
  if add:
    return x + Linear(x.shape[-1], name="position_projection")(positions)
  return jnp.concatenate([x, positions], axis=-1)


def position_table(
  shape: Sequence[int],
  num_octaves: int,
  as_float32: bool = True,
  given: Array | np.ndarray | None = None,
) -> Float[Array, "N P"]:
  """Returns the Fourier features of a grid, row-major, or the given ones, `[*shape, P]`."""
  if given is not None:
    return jnp.asarray(given).reshape(-1, given.shape[-1])
  grid = coordinates_float32(shape) if as_float32 else coordinates(shape, "inclusive")
  return jnp.asarray(fourier_octaves(grid, num_octaves), jnp.float32)
