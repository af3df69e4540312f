"""Boxes around objects of a segmentation."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def box_edges(
  segmentation: Int[Array, "T B H W"], num: int
) -> tuple[Float[Array, "T B Q 4"], Bool[Array, "T B Q"]]:
  """Returns the boxes around the visible parts of objects 1 to `num`, and their visibility.

  Boxes are (y0, x0, y1, x1), in [0, 1] of the image's sides; zeros if not visible.
  """
  mask = segmentation[:, :, None] == jnp.arange(1, num + 1).reshape(1, 1, num, 1, 1)
  ends = []
  for axis in (3, 4):  # rows, then columns
    there = jnp.any(mask, axis=7 - axis)
    size = there.shape[-1]
    low = jnp.argmax(there, axis=-1).astype(jnp.float32)
    high = size - jnp.argmax(there[..., ::-1], axis=-1).astype(jnp.float32)
    ends.append((low / size, high / size))
  visible = jnp.any(mask, axis=(3, 4))
  edges = jnp.stack([end[i] for i in range(2) for end in ends], axis=-1)
  return jnp.where(visible[..., None], edges, 0.0), visible


def boxes_of(
  segmentation: Int[Array, "T B H W"], num: int
) -> tuple[Float[Array, "T B Q 4"], Bool[Array, "T B Q"]]:
  """Returns the result of `box_edges` as (x, y) of the centre, width and height."""
  edges, visible = box_edges(segmentation, num)
  y0, x0, y1, x1 = jnp.moveaxis(edges, -1, 0)
  return jnp.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=-1), visible
