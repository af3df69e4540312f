"""Blur, and convolution with a random kernel."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MAX_KERNEL = 11
_CUT = 0.87962566103423978  # deviation of a unit normal cut at two


def blur(
  clip: Float[Array, "T H W C"], sigma: float | Float[Array, ""], kernel: int
) -> Float[Array, "T H W C"]:
  """Returns frames blurred by a Gaussian, rows and columns in turn; beyond the edge is zero.

  Args:
    clip: Frames.
    sigma: Standard deviation in pixels.
    kernel: Side of the kernel in pixels; an even one is enlarged by one.

  Source: google-deepmind/brave, brave/datasets/augmentations.py.
  """
  radius = kernel // 2
  offsets = jnp.arange(-radius, radius + 1).astype(clip.dtype)
  weights = jnp.exp(-jnp.square(offsets) / (2 * jnp.square(jnp.asarray(sigma, clip.dtype))))
  weights = weights / jnp.sum(weights)
  for axis in (2, 1):
    edges = [(radius, radius) if i == axis else (0, 0) for i in range(4)]
    padded, size = jnp.pad(clip, edges), clip.shape[axis]
    shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]
    clip = sum((w * x for w, x in zip(weights, shifted, strict=True)), jnp.zeros_like(clip))
  return clip


def random_blur(
  rng: Array, clip: Float[Array, "T H W C"], *, low: float = 0.1, high: float = 2.0
) -> Float[Array, "T H W C"]:
  """Returns a clip blurred with one σ ~ U(low, high) and a kernel of a tenth of its width."""
  sigma = jax.random.uniform(rng, (), clip.dtype, low, high)
  return blur(clip, sigma, clip.shape[2] // 10)


def convolve(
  clip: Float[Array, "T H W C"], kernel: Float[Array, "k k C D"]
) -> Float[Array, "T H W D"]:
  """Returns frames filtered by one kernel; beyond the edge is zero, and nothing is clipped."""
  dimensions = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(clip, kernel, (1, 1), "SAME", dimension_numbers=dimensions)


def draw_kernel(
  rng: Array, side: Int[Array, ""], *, most: int = MAX_KERNEL, channels: int = 3
) -> Float[Array, "M M C C"]:
  """Returns a `side`² kernel of He's normal, cut at two deviations, amid zeros in `most`² cells.

  The deviation after the cut is √(2 / (channels · side²)).
  """
  normal = jax.random.truncated_normal(rng, -2.0, 2.0, (most, most, channels, channels)) / _CUT
  deviation = jnp.sqrt(2 / (channels * jnp.square(side).astype(normal.dtype)))
  distance = jnp.abs(jnp.arange(most) - most // 2)
  inside = distance <= side // 2
  inside = inside[:, None] & inside[None]
  return jnp.where(inside[..., None, None], deviation * normal, jnp.zeros_like(normal))


def random_convolution(
  rng: Array, clip: Float[Array, "T H W C"], *, most: int = MAX_KERNEL
) -> Float[Array, "T H W C"]:
  """Returns a clip filtered by one random kernel of side 1, 3, ... or `most`; it leaves [0, 1].

  Source: google-deepmind/brave, brave/datasets/augmentations.py; after RandConv, 2007.13003.
  """
  for_side, for_kernel = jax.random.split(rng)
  sides = jnp.asarray(np.arange(1, most + 1, 2), jnp.int32)
  side = sides[jax.random.randint(for_side, (), 0, len(sides))]
  return convolve(clip, draw_kernel(for_kernel, side, most=most, channels=clip.shape[-1]))
