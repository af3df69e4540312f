"""Bilinear sampling of images at fractional positions, and repetition of values."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(jax.jit, inline=True)  # traced once per shape, not at each call
def sample_bilinear(
  pictures: Float[Array, "B H W C"], y: Float[Array, "B ..."], x: Float[Array, "B ..."]
) -> Float[Array, "B ... C"]:
  """Returns the images sampled at fractional positions; positions outside read the edge.

  Args:
    pictures: The images.
    y: Rows; whole numbers are pixel centres. Gradients flow to positions and images.
    x: Columns.
  """
  height, width, channels = pictures.shape[1:]
  y, x = jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)
  y0, x0 = jnp.floor(y), jnp.floor(x)
  wy, wx = (y - y0)[..., None], (x - x0)[..., None]
  y0, x0 = y0.astype(jnp.int32), x0.astype(jnp.int32)
  y1, x1 = jnp.minimum(y0 + 1, height - 1), jnp.minimum(x0 + 1, width - 1)
  flat = pictures.reshape(pictures.shape[0], -1, channels)
  corner = jax.vmap(lambda picture, rows, columns: picture[rows * width + columns])
  top = corner(flat, y0, x0) * (1 - wx) + corner(flat, y0, x1) * wx
  bottom = corner(flat, y1, x0) * (1 - wx) + corner(flat, y1, x1) * wx
  return top * (1 - wy) + bottom * wy


def repeat_2d(x: Float[Array, "*n H W C"], factor: int) -> Float[Array, "*n h w C"]:
  """Returns maps `factor` times as high and as wide, each value repeated."""
  return jnp.repeat(jnp.repeat(x, factor, axis=-3), factor, axis=-2)
