"""Tables of positions: sines and cosines read at a point, and bicubic interpolation of a grid."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.nn import sample_bilinear


def sincos_table(height: int, width: int, dim: int) -> Float[np.ndarray, "H W D"]:
  """Returns sines and cosines of x and of y, a quarter of the channels each, as in MoCo v3."""
  quarter = dim // 4
  omega = 10_000.0 ** -(np.arange(quarter) / max(quarter - 1, 1))
  y, x = np.mgrid[:height, :width][..., None] * omega
  return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=-1).astype(np.float32)


def read_table(
  table: Float[Array, "H W D"], position: Float[Array, "*B 2"], *, fade: bool
) -> Float[Array, "*B D"]:
  """Returns the table at (row, column) in pixels; the first pixel has its centre at 0.5.

  Args:
    table: One vector for each pixel.
    position: Positions, also fractional ones.
    fade: Outside the centres of the border, fade to zero within a pixel (torch); else the value of
      the border (JAX).
  """
  flat = position.reshape(1, -1, 2) - 0.5
  padded = jnp.pad(table, ((1, 1), (1, 1), (0, 0))) if fade else table
  flat = flat + 1 if fade else flat
  read = sample_bilinear(padded[None], flat[..., 0], flat[..., 1])
  return read.reshape(*position.shape[:-1], table.shape[-1])


def resize_grid(grid: Float[Array, "h w D"], shape: tuple[int, int]) -> Float[Array, "H W D"]:
  """Returns a grid resized bicubically as torch does, without antialiasing."""
  if grid.shape[:2] == shape:
    return grid
  rows, columns = (
    jnp.asarray(_cubic_weights(new, old)) for new, old in zip(shape, grid.shape, strict=False)
  )
  return jnp.einsum("ih,jw,hwd->ijd", rows, columns, grid)


def _cubic_weights(new: int, old: int, sharpness: float = -0.75) -> Float[np.ndarray, "N M"]:
  """Returns the weights of a cubic convolution; positions outside read the border."""
  place = (np.arange(new) + 0.5) * old / new - 0.5
  first = np.floor(place).astype(int)
  weights = np.zeros((new, old), np.float32)
  for tap in range(-1, 3):
    away = np.abs(place - first - tap)
    near = (sharpness + 2) * away**3 - (sharpness + 3) * away**2 + 1
    far = sharpness * (away**3 - 5 * away**2 + 8 * away - 4)
    value = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
    np.add.at(weights, (np.arange(new), np.clip(first + tap, 0, old - 1)), value)
  return weights
