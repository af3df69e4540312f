"""Class ids and depth as RGB images, without loss: distant colours, and a path through the colour cube.

With these, one network with three output channels and one loss learns to predict pixels, to
segment and to estimate depth, with the same head ("Learning from one continuous video stream",
2312.00598). The paper does not specify its colours; these are our choice.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

# A path along the edges of the colour cube through every corner once: black, blue, cyan, green,
# yellow, red, magenta, white. It has 7 · 255 + 1 integer colours.
CORNERS = np.array(
  [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1)]
)
EDGES = len(CORNERS) - 1
MAX_CLASSES = 27


def palette(num: int) -> UInt8[np.ndarray, "K 3"]:
  """Returns the colours of `num` classes: black, the other corners of the cube, then half tones.

  Raises:
    ValueError: There are more classes than colours.
  """
  if not 1 <= num <= MAX_CLASSES:
    raise ValueError(f"palette: {num} classes; there are colours for 1 to {MAX_CLASSES}.")
  colours = itertools.product((0, 255, 128), repeat=3)
  return np.array(sorted(colours, key=lambda c: c.count(128)), np.uint8)[:num]


def paint_classes(ids: Int[np.ndarray, "*n"], num: int) -> UInt8[np.ndarray, "*n 3"]:
  """Returns class ids as colours.

  Raises:
    ValueError: An id has no colour.
  """
  if ids.size and not 0 <= ids.min() <= ids.max() < num:
    raise ValueError(
      f"paint_classes: ids from {ids.min()} to {ids.max()}, but the palette has {num} colours."
    )
  return palette(num)[ids]


def read_classes(picture: Float[Array, "*n 3"], num: int) -> Int[Array, "*n"]:
  """Returns the class of the nearest colour; colours in [0, 1]."""
  colours = jnp.asarray(palette(num), jnp.float32) / 255
  alike = 2 * picture @ colours.T  # |x - c|² is |x|², the same for all c, + |c|² - 2 x·c
  size = jnp.broadcast_to(jnp.sum(jnp.square(colours), -1), alike.shape)
  return jnp.argmin(size - alike, axis=-1).astype(jnp.int32)


def paint_depth(
  metres: Float[np.ndarray, "*n"], nearest: float, farthest: float
) -> UInt8[np.ndarray, "*n 3"]:
  """Returns depth as colours, logarithmically spaced along the path; NaN is the largest depth."""
  metres = np.clip(np.nan_to_num(metres, nan=farthest), nearest, farthest)
  way = EDGES * np.log(metres / nearest) / np.log(farthest / nearest)
  edge = np.minimum(way.astype(int), EDGES - 1)
  part = (way - edge)[..., None]
  return np.rint(255 * (CORNERS[edge] * (1 - part) + CORNERS[edge + 1] * part)).astype(np.uint8)


def read_depth(
  picture: Float[Array, "*n 3"], nearest: float, farthest: float
) -> Float[Array, "*n"]:
  """Returns metres at the point of the path that is nearest to each colour in [0, 1]."""
  lead = (1,) * (picture.ndim - 1)
  start = jnp.asarray(CORNERS[:-1], jnp.float32).reshape(*lead, EDGES, 3)
  step = jnp.asarray(np.diff(CORNERS, axis=0), jnp.float32).reshape(*lead, EDGES, 3)
  away = picture[..., None, :] - start
  part = jnp.clip(jnp.sum(away * step, -1), 0, 1)  # [*n, EDGES]
  distance = jnp.sum(jnp.square(away - part[..., None] * step), -1)
  edge = jnp.argmin(distance, axis=-1)
  way = edge.astype(jnp.float32) + jnp.take_along_axis(part, edge[..., None], -1)[..., 0]
  return nearest * jnp.exp(way / EDGES * float(np.log(farthest / nearest)))
