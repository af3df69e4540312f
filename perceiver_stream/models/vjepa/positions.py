"""Positions of tubelets: a fixed table for version 1, rotations for version 2."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Grid = tuple[int, int, int]


def sincos_1d(positions: Float[np.ndarray, " N"], dim: int) -> Float[np.ndarray, "N D"]:
  """Returns the sines, then the cosines of position / 10000^(2i / dim)."""
  angles = positions[:, None] / 10000 ** (np.arange(dim // 2) / (dim / 2))
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def sincos_table(grid: Grid, dim: int, *, uniform: bool = True) -> Float[np.ndarray, "N D"]:
  """Returns the table of V-JEPA: encodings of time, row and column, concatenated and cut to `dim`.

  Args:
    grid: Tubelets over time, rows and columns.
    dim: Width of a token.
    uniform: If True, each axis has 2⌈dim / 6⌉ channels; if False, time has half of them.
  """
  t, y, x = (i.reshape(-1).astype(np.float64) for i in np.indices(grid))
  third = 2 * int(np.ceil(dim / 6))
  widths = (third, third, third) if uniform else (dim // 2, dim // 4, dim // 4)
  parts = [sincos_1d(axis, width) for axis, width in zip((t, y, x), widths, strict=True)]
  return np.concatenate(parts, axis=1)[:, :dim]


def resized_table(
  table: Float[np.ndarray, "N D"], grid: Grid, wanted: Grid
) -> Float[np.ndarray, "M D"]:
  """Returns a table for a grid of another size, by trilinear interpolation of the tubelets' centres.

  Values beyond the outermost centres are those of the outermost; smaller grids are not averaged.
  """
  cells = table.reshape(*grid, -1)
  for axis, (old, new) in enumerate(zip(grid, wanted, strict=True)):
    cells = np.moveaxis(np.tensordot(_linear(old, new), cells, (1, axis)), 0, axis)
  return cells.reshape(-1, table.shape[-1])


def _linear(old: int, new: int) -> Float[np.ndarray, "M N"]:
  """Returns the matrix of linear interpolation from `old` to `new` samples."""
  places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, None)
  low = np.minimum(np.floor(places).astype(int), old - 1)
  high, share = np.minimum(low + 1, old - 1), places - low
  matrix = np.zeros((new, old))
  np.add.at(matrix, (np.arange(new), low), 1 - share)
  np.add.at(matrix, (np.arange(new), high), share)
  return matrix


def rotated(
  x: Float[Array, "B N M F"], positions: Float[Array, "B N"], *, as_released: bool = True
) -> Float[Array, "B N M F"]:
  """Returns vectors rotated by their position, at frequencies 10000^(-2i / F), in pairs (2i, 2i+1).

  Args:
    x: F is even.
    positions: One per vector.
    as_released: If True, channel j has the angle of frequency j mod F/2, so that the two of a pair
      have different angles: this is no rotation, but the published weights were trained with it.
  """
  half = x.shape[-1] // 2
  if not half:
    return x
  frequencies = 1.0 / 10000 ** (np.arange(half) / half)
  angles = positions[..., None] * jnp.asarray(frequencies, x.dtype)[None, None]
  angles = jnp.tile(angles, 2) if as_released else jnp.repeat(angles, 2, axis=-1)
  angles = angles[:, :, None]
  pairs = x.reshape(*x.shape[:-1], half, 2)
  turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(x.shape)
  return x * jnp.broadcast_to(jnp.cos(angles), x.shape) + turned * jnp.broadcast_to(
    jnp.sin(angles), x.shape
  )


def rotated_3d(
  x: Float[Array, "B N M F"],
  places: Int[Array, "B N"],
  frame: tuple[int, int],
  *,
  as_released: bool = True,
) -> Float[Array, "B N M F"]:
  """Returns heads whose three equal parts are rotated by time, row and column; the rest stays.

  Args:
    x: Queries or keys.
    places: Row-major indices of the tubelets.
    frame: Rows and columns of tubelets.
    as_released: See `rotated`.
  """
  rows, columns = frame
  part = 2 * ((x.shape[-1] // 3) // 2)
  time, rest = places // (rows * columns), places % (rows * columns)
  axes = (time, rest // columns, rest % columns)
  pieces = [
    rotated(x[..., i * part : (i + 1) * part], axis.astype(x.dtype), as_released=as_released)
    for i, axis in enumerate(axes)
  ]
  return jnp.concatenate([*pieces, x[..., 3 * part :]], axis=-1)
