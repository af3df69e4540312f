"""Normalised correlation of small patches with an image, around given positions; no parameters."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.sampling import sample_bilinear

_MIN_NORM = 0.03  # root of the sum of squares over a patch: flat patches match nothing
_DAMPING = 0.01  # of the refinement, for patches of unit length
_MAX_REFINEMENT = 0.7  # pixels from the best integer offset


class PatchMatch(NamedTuple):
  """Best match of each patch.

  Attributes:
    offset: (y, x) in pixels from the centre of the search.
    likeness: Normalised correlation there, in [-1, 1].
    scores: Normalised correlation at all integer offsets, up to `reach` on each axis.
  """

  offset: Float[Array, "B P 2"]
  likeness: Float[Array, "B P"]
  scores: Float[Array, "B P s s"]


def patches_at(
  image: Float[Array, "B H W C"], centre: Float[Array, "B P 2"], side: int
) -> Float[Array, "B P K"]:
  """Returns the patch around each position, with zero mean per channel and unit length.

  A flat patch becomes zeros.

  Args:
    image: Values in [0, 1].
    centre: (y, x) in pixels, whole numbers at pixel centres.
    side: Rows and columns of a patch; odd. K = side² C.
  """
  window = _window(image, centre, side // 2)
  rows, points = centre.shape[:2]
  patch = window.reshape(rows, points, side**2, -1)
  patch = (patch - jnp.mean(patch, axis=2, keepdims=True)).reshape(rows, points, -1)
  return unit_length(patch)


def unit_length(patch: Float[Array, "*n K"]) -> Float[Array, "*n K"]:
  """Returns patches divided by their length; nearly flat ones become zeros."""
  squared = jnp.sum(jnp.square(patch), axis=-1, keepdims=True)
  # Avoids the root of zero, whose gradient is not finite.
  scale = jax.lax.rsqrt(jnp.maximum(squared, _MIN_NORM**2))
  return jnp.where(squared > _MIN_NORM**2, patch * scale, jnp.zeros_like(patch))


def match_patches(
  image: Float[Array, "B H W C"],
  patches: list[Float[Array, "B P K"]],
  centre: Float[Array, "B P 2"],
  *,
  side: int,
  reach: int,
) -> list[PatchMatch]:
  """Returns the best match of each patch within `reach` pixels of its position.

  The best integer offset is refined by a least-squares step, so that a patch matches exactly at its
  own position.

  Args:
    image: Values in [0, 1].
    patches: Sets of patches as in `patches_at`, each with one patch per position.
    centre: Centres of the search, (y, x) in pixels.
    side: Rows and columns of a patch; odd.
    reach: Largest offset, in pixels.
  """
  window = _window(image, centre, reach + side // 2)
  squared = _variance(window, side)
  flat = squared <= _MIN_NORM**2
  scale = jax.lax.rsqrt(jnp.maximum(squared, _MIN_NORM**2))
  matches = []
  for patch in patches:  # patches have zero mean, so windows need no mean subtraction
    scores = jnp.where(flat, jnp.zeros_like(scale), scale * _products(window, patch, side))
    offset, likeness = _peak(scores, reach)
    offset = offset + _refined(image, patch, centre + offset, side)
    matches.append(PatchMatch(offset, likeness, scores))
  return matches


def _variance(window: Float[Array, "B P n n C"], side: int) -> Float[Array, "B P s s"]:
  """Returns the sum of squares of each patch of a window, without its mean per channel."""

  def mean(x: Array) -> Array:
    for lengths in ((1, 1, side, 1, 1), (1, 1, 1, side, 1)):
      x = jax.lax.reduce_window(x, 0.0, jax.lax.add, lengths, (1,) * 5, "VALID")
    return x / side**2

  return side**2 * jnp.sum(mean(jnp.square(window)) - jnp.square(mean(window)), axis=-1)


def _products(
  window: Float[Array, "B P n n C"], patch: Float[Array, "B P K"], side: int
) -> Float[Array, "B P s s"]:
  """Returns the product of a patch with each patch of a window, row by row.

  Only rows are unfolded: unfolding whole patches takes `side` times the memory, and most of the time.
  """
  steps = window.shape[2] - side + 1
  rows = jnp.concatenate([window[:, :, :, j : j + steps] for j in range(side)], axis=-1)
  lines = patch.reshape(*patch.shape[:2], side, -1)
  product = functools.partial(jnp.einsum, "bpyxk,bpk->bpyx", precision="highest")
  parts = [product(rows[:, :, i : i + steps], lines[:, :, i]) for i in range(side)]
  return functools.reduce(jnp.add, parts)


def _window(image: Array, centre: Array, reach: int) -> Float[Array, "B P s s C"]:
  """Returns the image at integer offsets from each centre; positions outside read the edge."""
  steps = jnp.arange(-reach, reach + 1.0)
  shape = (*centre.shape[:2], len(steps), len(steps))
  y = jnp.broadcast_to(centre[..., 0][..., None, None] + steps.reshape(1, 1, -1, 1), shape)
  x = jnp.broadcast_to(centre[..., 1][..., None, None] + steps.reshape(1, 1, 1, -1), shape)
  return sample_bilinear(image, y, x)


def _peak(scores: Float[Array, "B P s s"], reach: int) -> tuple[Array, Array]:
  """Returns the integer offset (y, x) of the best score, and the score."""
  flat = scores.reshape(*scores.shape[:2], -1)
  best = jnp.argmax(flat, axis=-1)
  offset = jnp.stack(jnp.divmod(best, 2 * reach + 1), axis=-1) - reach
  return offset.astype(jnp.float32), jnp.max(flat, axis=-1)


def _refined(image: Array, patch: Array, centre: Array, side: int) -> Float[Array, "B P 2"]:
  """Returns the offset of a patch from `centre`: one damped least-squares step, zero at a match."""
  wide = _window(image, centre, side // 2 + 1)
  rows, points = centre.shape[:2]
  flat = lambda x: x.reshape(rows, points, side**2, -1)  # noqa: E731
  here = flat(wide[:, :, 1:-1, 1:-1])
  here = (here - jnp.mean(here, axis=2, keepdims=True)).reshape(patch.shape)
  squared = jnp.sum(jnp.square(here), axis=-1, keepdims=True)
  scale = jax.lax.rsqrt(jnp.maximum(squared, _MIN_NORM**2))
  gy = flat(wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]).reshape(patch.shape) * scale / 2
  gx = flat(wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]).reshape(patch.shape) * scale / 2
  rest = patch - here * scale
  yy, xy, xx, y, x = (
    jnp.sum(one * other, axis=-1)
    for one, other in ((gy, gy), (gy, gx), (gx, gx), (gy, rest), (gx, rest))
  )
  yy, xx = yy + _DAMPING, xx + _DAMPING
  step = jnp.stack([xx * y - xy * x, yy * x - xy * y], axis=-1) / (yy * xx - xy * xy)[..., None]
  return jnp.clip(step, -_MAX_REFINEMENT, _MAX_REFINEMENT)
