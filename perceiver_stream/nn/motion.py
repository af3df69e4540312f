"""Optical flow between two images: pyramidal Lucas-Kanade, dense, without parameters.

It provides motion features to a tokenizer from the first tick on. It is an input of learned layers
and not a final estimate: it is wrong at occlusions, in flat regions and under changing light.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.sampling import repeat_2d, sample_bilinear

CUT_SHARE = 0.5  # of an image's variance; matched motion leaves more of it only across a cut
STILL = 1.5e-5  # mean squared difference of a grey level, 1 / 255
CUT_FLOOR = 1e-3  # mean squared difference: less is noise of a nearly uniform image


class FramePair(NamedTuple):
  """Two successive images and the motion between them.

  Attributes:
    previous: RGB in [0, 1].
    newest: RGB in [0, 1]; equal to `previous` at the start of a recording.
    forward: Displacement (x, y) in pixels from each pixel of `previous` to `newest`.
    backward: Displacement from each pixel of `newest` to `previous`.
    observed: False if there is no new image at this tick; the pair is then that of an earlier tick.
  """

  previous: Float[Array, "*T B H W 3"]
  newest: Float[Array, "*T B H W 3"]
  forward: Float[Array, "*T B H W 2"]
  backward: Float[Array, "*T B H W 2"]
  observed: Bool[Array, "*T B"]


# Traced once per shape and not at each call, which would take a fifth of a model's tracing time.
@functools.partial(jax.jit, inline=True, static_argnames=("levels", "window", "damping"))
def local_motion(
  previous: Float[Array, "B H W C"],
  last: Float[Array, "B H W C"],
  *,
  levels: int = 3,
  window: int = 7,
  damping: float = 3e-4,
) -> Float[Array, "B H W 3"]:
  """Returns the displacement from each pixel of `last` to `previous`, and its residual.

  One damped least-squares step per pyramid level, coarse to fine. Damping pulls flat regions
  to zero. Sizes that cannot be halved get fewer levels.

  Args:
    previous: The earlier image, values in [0, 1].
    last: The later image.
    levels: Pyramid levels; motion up to about 2^levels pixels is found.
    window: Side in pixels of the neighbourhood that is assumed to move together; odd.
    damping: Added to the mean squared gradient.

  Returns:
    `[B, H, W, 3]`: displacement x and y in pixels (`last[p]` looks like `previous[p + xy]`), and
    the root mean square difference that remains.

  Source: Lucas and Kanade 1981; the pyramid after Bouguet 2000. Ours: one step per level.
  """
  pyramid = [(previous, last)]
  while len(pyramid) < levels and not any(size % 2 for size in pyramid[-1][0].shape[1:3]):
    pyramid.append((_halve(pyramid[-1][0]), _halve(pyramid[-1][1])))
  flow = jnp.zeros((*pyramid[-1][0].shape[:3], 2), jnp.float32)
  for i, (before, after) in enumerate(reversed(pyramid)):
    if i:
      flow = box_filter(2 * repeat_2d(flow, 2), 3)
    flow = flow + _step(_warp(before, flow), after, window, damping)
  rest = jnp.mean(jnp.square(_warp(previous, flow) - last), axis=-1, keepdims=True)
  return jnp.concatenate([flow, jnp.sqrt(box_filter(rest, window) + 1e-8)], axis=-1)


def is_cut(
  previous: Float[Array, "B H W C"], last: Float[Array, "B H W C"], *, levels: int = 3
) -> Bool[Array, " B"]:
  """Returns the rows in which matched motion leaves over half of an image's variance unexplained.

  Motion within the range of the matching is not a cut, however fine the texture; neither are
  changes of light or noise of a few per cent.

  Args:
    previous: The earlier image, values in [0, 1].
    last: The later image.
    levels: Pyramid levels, as for `local_motion`.
  """
  left = jnp.mean(jnp.square(local_motion(previous, last, levels=levels)[..., 2]), axis=(1, 2))
  return left > _cut_error(last)


def is_unexplained(
  previous: Float[Array, "B H W C"], last: Float[Array, "B H W C"], flow: Float[Array, "B H W 2"]
) -> Bool[Array, " B"]:
  """Returns `is_cut` for a known motion, without another search.

  Args:
    previous: The earlier image, values in [0, 1].
    last: The later image.
    flow: Displacement (x, y) in pixels from `last` to where it was in `previous`, as of `local_motion`.
  """
  left = jnp.mean(jnp.square(_warp(previous, flow) - last), axis=(1, 2, 3))
  return left > _cut_error(last)


def has_stopped(
  previous: Float[Array, "B H W C"], last: Float[Array, "B H W C"], slow: Float[Array, "B H W C"]
) -> Bool[Array, " B"]:
  """Returns the rows in which a fade has ended: nothing moves, and the average is of other images.

  Args:
    previous: The earlier image, values in [0, 1].
    last: The later image; it differs from `previous` by less than the noise of a codec.
    slow: The average of all earlier images; it leaves more than half of the variance of `last`.
  """
  change = jnp.mean(jnp.square(last - previous), axis=(1, 2, 3))
  away = jnp.mean(jnp.square(last - slow), axis=(1, 2, 3))
  return (change < STILL) & (away > _cut_error(last))


def _cut_error(last: Float[Array, "B H W C"]) -> Float[Array, " B"]:
  """Returns the mean square error from which on an image shows another scene."""
  return jnp.maximum(CUT_SHARE * _variance(last), CUT_FLOOR)


def _variance(image: Float[Array, "B H W C"]) -> Float[Array, " B"]:
  mean = jnp.mean(image, axis=(1, 2), keepdims=True)
  return jnp.mean(jnp.square(image - mean), axis=(1, 2, 3))


def roughness(flow: Float[Array, "*n H W 2"], threshold: float = 1e-3) -> Float[Array, ""]:
  """Returns the roughness of a flow: the mean over pixels and channels of Huber's ρ(√(gx² + gy²)).

  g are central differences of a channel; ρ(x) is x²/2t up to the threshold t and x - t/2 beyond,
  where it equals the total variation up to a constant.

  Args:
    flow: Flow in pixels.
    threshold: Threshold of Huber's function.

  Source: the spatio-temporal video autoencoder, 1511.06309, whose release
  contains the gradient only. Differs: slope 1 beyond the threshold, and a mean instead of a sum.
  """
  flat = flow.reshape(-1, *flow.shape[-3:])
  squared = sum(jnp.square(g) for g in _gradient(flat))
  size = jnp.sqrt(jnp.maximum(squared, threshold**2))  # avoids the root of zero
  return jnp.mean(jnp.where(size > threshold, size - threshold / 2, squared / (2 * threshold)))


def box_filter(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H W C"]:
  """Returns the mean over a `size`×`size` neighbourhood; edges repeat."""
  pad = size // 2
  x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
  x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, size, 1, 1), (1, 1, 1, 1), "VALID")
  x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1, size, 1), (1, 1, 1, 1), "VALID")
  return x / size**2


def _step(before: Array, after: Array, window: int, damping: float) -> Array:
  """Returns the displacement, at most one pixel, that takes `after` closest to `before`."""
  gradients = zip(_gradient(before), _gradient(after), strict=True)
  ix, iy = [(one + other) / 2 for one, other in gradients]
  difference = before - after
  products = [ix * ix, ix * iy, iy * iy, ix * difference, iy * difference]
  means = box_filter(jnp.stack([jnp.mean(p, axis=-1) for p in products], axis=-1), window)
  a, b, c, u, v = jnp.moveaxis(means, -1, 0)
  a, c = a + damping, c + damping
  determinant = a * c - b * b
  xy = jnp.stack([b * v - c * u, b * u - a * v], axis=-1) / determinant[..., None]
  return jnp.clip(xy, -1.0, 1.0)


def _gradient(x: Array) -> tuple[Array, Array]:
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
  along_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
  along_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
  return along_x, along_y


def _halve(x: Array) -> Array:
  batch, height, width, channels = x.shape
  return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def _warp(x: Array, flow: Array) -> Array:
  rows, columns = jnp.mgrid[: x.shape[1], : x.shape[2]].astype(jnp.float32)
  shape = flow.shape[:3]
  y = jnp.broadcast_to(rows[None], shape) + flow[..., 1]
  return sample_bilinear(x, y, jnp.broadcast_to(columns[None], shape) + flow[..., 0])
