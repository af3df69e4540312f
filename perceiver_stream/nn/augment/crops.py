"""Crops, resizing and flips."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.types import Size

TRIES = 20


def resize(clip: Float[Array, "T H W C"], height: Size, width: Size) -> Float[Array, "T h w C"]:
  """Returns frames resized by bilinear interpolation of pixel centres, without smoothing first."""
  shape = (clip.shape[0], height, width, clip.shape[3])
  return jax.image.resize(clip, shape, "linear", antialias=False)


def resize_shorter(clip: Float[Array, "T H W C"], side: Size) -> Float[Array, "T h w C"]:
  """Returns frames resized so that the shorter side is `side`; the longer one is rounded down."""
  height, width = clip.shape[1:3]
  if height <= width:
    return resize(clip, side, int(width * side / height))
  return resize(clip, int(height * side / width), side)


def crop_and_resize(
  clip: Float[Array, "T H W C"], box: Float[Array, "4"], height: Size, width: Size
) -> Float[Array, "T h w C"]:
  """Returns a box of all frames, resized by bilinear interpolation.

  Args:
    clip: Frames.
    box: Top, left, height and width in pixels, inside the frames.
    height: Rows of the result.
    width: Columns of the result.
  """
  sizes = jnp.asarray([height, width], clip.dtype)
  scale = sizes / box[2:]
  shape = (clip.shape[0], height, width, clip.shape[3])
  return jax.image.scale_and_translate(
    clip, shape, (1, 2), scale, -box[:2] * scale, "linear", antialias=False
  )


def draw_box(
  rng: Array,
  height: Size,
  width: Size,
  *,
  area: tuple[float, float] = (0.3, 1.0),
  aspect: tuple[float, float] = (0.5, 2.0),
) -> Float[Array, "4"]:
  """Returns top, left, height and width of a random box, whole pixels as float32.

  The first of `TRIES` draws that fits; else the centre square, 16 pixels smaller than the shorter
  side where that leaves half of it.

  Args:
    rng: Key.
    height: Rows of the frames.
    width: Columns of the frames.
    area: Least and greatest share of the frame's area.
    aspect: Least and greatest width over height.
  """
  keys = jax.random.split(rng, 4)
  draw = lambda key, low, high: jax.random.uniform(key, (TRIES,), jnp.float32, low, high)  # noqa: E731
  pixels, ratio = height * width * draw(keys[0], *area), draw(keys[1], *aspect)
  rows, columns = jnp.round(jnp.sqrt(pixels / ratio)), jnp.round(jnp.sqrt(pixels * ratio))
  fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
  first, side = jnp.argmax(fits), min(height, width)
  centre = float(side - 16 if side >= 32 else side)
  rows = jnp.where(fits[first], rows[first], centre)
  columns = jnp.where(fits[first], columns[first], centre)
  unit = jax.random.uniform(keys[2], (2,))
  room = jnp.stack([height - rows, width - columns])
  corner = jnp.where(fits[first], jnp.floor(unit * (room + 1)), jnp.floor(room / 2))
  return jnp.concatenate([jnp.minimum(corner, room), jnp.stack([rows, columns])])


def random_crop(
  rng: Array, clip: Float[Array, "T H W C"], side: Size, **ranges: tuple[float, float]
) -> Float[Array, "T s s C"]:
  """Returns a random box of all frames (`draw_box`), resized to a square."""
  box = draw_box(rng, clip.shape[1], clip.shape[2], **ranges)
  return crop_and_resize(clip, box, side, side)


def random_flip(rng: Array, clip: Float[Array, "T H W C"]) -> Float[Array, "T H W C"]:
  """Returns the clip, or its mirror image with probability ½."""
  return jnp.where(jax.random.bernoulli(rng), clip[:, :, ::-1], clip)
