"""Heat maps of keypoints: a head for image nets, their loss, and points from maps.

Every keypoint has a map over a grid of cells, each `stride` pixels wide; a softmax over the cells
is the distribution of its position. Points are (x, y) in raster coordinates: the centre of the first pixel is
(0.5, 0.5), that of the first cell `stride / 2`.

Source: our version of the keypoint task of Carreira et al. 2018, 1806.03863. Differs: cells of a
map compete in one softmax, against a Gaussian around the point that sums to 1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.models.stages import Layer, scoped_layer
from perceiver_stream.nn import LayerNorm, gelu
from perceiver_stream.nn.conv import Conv2D


def head(name: str, reads: tuple[str, ...], num_keypoints: int) -> Layer:
  """Returns the layer that computes logits `[B, h, w, num_keypoints]` from all features it reads."""

  def function(*features: Float[Array, "B h w _"]) -> Float[Array, "B h w K"]:
    x = gelu(LayerNorm(name="norm")(jnp.concatenate(features, axis=-1)))
    return Conv2D(num_keypoints, kernel=1, in_loop=True, name="conv")(x)

  return scoped_layer(name, reads, function)


def centres(height: int, width: int, stride: int) -> Float[Array, "N 2"]:
  """Returns the (x, y) of the cells of a map, row by row."""
  y, x = jnp.meshgrid(
    jnp.arange(float(height)) + 0.5, jnp.arange(float(width)) + 0.5, indexing="ij"
  )
  return stride * jnp.stack([x, y], axis=-1).reshape(-1, 2)


def gaussian(
  points: Float[Array, "B K 2"], height: int, width: int, stride: int, sigma: float = 1.0
) -> Float[Array, "B h w K"]:
  """Returns the target maps: a Gaussian around each point, `sigma` cells wide, that sums to 1."""
  cells = centres(height, width, stride)
  shape = (points.shape[0], cells.shape[0], *points.shape[1:])
  away = jax.lax.broadcast_in_dim(cells, shape, (1, 3)) - jax.lax.broadcast_in_dim(
    points, shape, (0, 2, 3)
  )
  logits = -0.5 * jnp.sum(jnp.square(away / (sigma * stride)), axis=-1)
  return jax.nn.softmax(logits, axis=1).reshape(-1, height, width, points.shape[1])


def loss(
  maps: Float[Array, "B h w K"],
  targets: Float[Array, "B h w K"],
  visible: Bool[Array, "B K"] | None = None,
) -> Float[Array, ""]:
  """Returns the cross-entropy of maps against target maps, mean over the visible keypoints.

  Args:
    maps: Logits.
    targets: From `gaussian`, or the softmax of another net's maps.
    visible: Mask of the keypoints that count; None is all.
  """
  rows, _, _, number = maps.shape
  visible = jnp.ones((rows, number), bool) if visible is None else visible
  # The position of a hidden point is undefined, possibly NaN: it must not reach a gradient.
  mask = jax.lax.broadcast_in_dim(visible, targets.shape, (0, 3))
  targets = jnp.where(mask, targets, 0.0).reshape(rows, -1, number)
  logs = jax.nn.log_softmax(maps.reshape(rows, -1, number), axis=1)
  return -jnp.sum(targets * logs) / jnp.maximum(jnp.sum(visible.astype(jnp.float32)), 1.0)


def probabilities(maps: Float[Array, "B h w K"]) -> Float[Array, "B h w K"]:
  """Returns the target distribution of each keypoint; it sums to 1 over the cells."""
  return jax.nn.softmax(maps.reshape(maps.shape[0], -1, maps.shape[-1]), axis=1).reshape(maps.shape)


def soft_argmax(maps: Float[Array, "B h w K"], stride: int) -> Float[Array, "B K 2"]:
  """Returns the mean (x, y) of each map: between cells, and differentiable."""
  shares = probabilities(maps).reshape(maps.shape[0], -1, maps.shape[-1])
  return jnp.einsum("bnk,nd->bkd", shares, centres(maps.shape[1], maps.shape[2], stride))


def argmax(maps: Float[Array, "B h w K"], stride: int) -> Float[Array, "B K 2"]:
  """Returns the (x, y) of the most likely cell of each map."""
  best = jnp.argmax(maps.reshape(maps.shape[0], -1, maps.shape[-1]), axis=1)
  return centres(maps.shape[1], maps.shape[2], stride)[best]
