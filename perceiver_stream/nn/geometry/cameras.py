"""Pin-hole cameras: pixels to points and back, lens distortion, homographies of planes.

Depth and disparity conversions are here too. Intrinsics are (fx, fy, cx, cy) in pixels whose
centres lie at j + 0.5, i + 0.5; fy may be negative (ICL-NUIM).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

MIN_DEPTH = 1e-3  # metres; nearer points and points behind the camera are invalid


def pixel_centres(height: int, width: int, dtype: DTypeLike = jnp.float32) -> Array:
  """Returns (x, y) of every pixel centre, `[H, W, 2]`."""
  x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
  return jnp.asarray(np.stack([x, y], axis=-1), dtype)


def _per_pixel(values: Float[Array, "B k"], ndim: int) -> list[Array]:
  """Returns the columns of `[B, k]` with axes of size 1, to broadcast with rank `ndim`."""
  shape = (values.shape[0],) + (1,) * (ndim - 1)
  return [values[:, i].reshape(shape) for i in range(values.shape[1])]


def backproject(
  depth: Float[Array, "B H W"], intrinsics: Float[Array, "B 4"]
) -> Float[Array, "B H W 3"]:
  """Returns the point of every pixel in camera coordinates, in the unit of the depth.

  Differs: gvnn counts pixels from 1 but the principal point from 0; here pixel centres are at
    halves.
  """
  fx, fy, cx, cy = _per_pixel(intrinsics, depth.ndim)
  centres = jnp.broadcast_to(
    pixel_centres(depth.shape[1], depth.shape[2], depth.dtype), (*depth.shape, 2)
  )
  return jnp.stack(
    [depth * (centres[..., 0] - cx) / fx, depth * (centres[..., 1] - cy) / fy, depth], axis=-1
  )


def project(
  points: Float[Array, "B *k 3"], intrinsics: Float[Array, "B 4"]
) -> tuple[Float[Array, "B *k 2"], Bool[Array, " B *k"]]:
  """Projects points into the image: (x, y) in pixels, and a mask of those in front.

  A point with z at or below `MIN_DEPTH` is invalid; it is projected to the principal point without
  a gradient. gvnn adds 1e-12 to z and accepts points behind the camera.
  """
  z = points[..., 2]
  valid = z > MIN_DEPTH
  fx, fy, cx, cy = _per_pixel(intrinsics, z.ndim)
  inverse = jnp.where(valid, 1 / jnp.where(valid, z, 1.0), 0.0)
  x, y = (jnp.where(valid, points[..., i], 0.0) * inverse for i in (0, 1))
  return jnp.stack([fx * x + cx, fy * y + cy], axis=-1), valid


def matrix(intrinsics: Float[Array, "*n 4"]) -> Float[Array, "*n 3 3"]:
  """Returns the camera matrix K."""
  fx, fy, cx, cy = (intrinsics[..., i] for i in range(4))
  zero, one = jnp.zeros_like(fx), jnp.ones_like(fx)
  rows = [[fx, zero, cx], [zero, fy, cy], [zero, zero, one]]
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def plane_homography(
  pose: Float[Array, "*n 4 4"],
  intrinsics: Float[Array, "*n 4"],
  normal: Float[Array, "*n 3"],
  distance: Float[Array, "*n"],
) -> Float[Array, "*n 3 3"]:
  """Returns the homography of the plane `normal . X = distance` of the target camera.

  It maps pixels of the target to the source, scaled so that its last entry is 1.

  Args:
    pose: `T_source_target`.
    intrinsics: Intrinsics of both cameras.
    normal: Unit normal of the plane in target coordinates.
    distance: Distance of the plane from the target camera, not 0.
  """
  k = matrix(intrinsics)
  outer = pose[..., :3, 3:] * (normal / distance[..., None])[..., None, :]
  homography = k @ (pose[..., :3, :3] + outer) @ jnp.linalg.inv(k)
  return homography / homography[..., 2:, 2:]


def apply_homography(
  homography: Float[Array, "B 3 3"], xy: Float[Array, "B *k 2"]
) -> Float[Array, "B *k 2"]:
  """Returns pixel positions mapped by a homography."""
  lifted = jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], axis=-1)
  mapped = jnp.einsum("bij,b...j->b...i", homography, lifted)
  return mapped[..., :2] / mapped[..., 2:]


# --- lens distortion ------------------------------------------------------------------------------


def distort(
  xy: Float[Array, "B *k 2"], coefficients: Float[Array, "B 5"]
) -> Float[Array, "B *k 2"]:
  """Returns distorted normalised coordinates, (pixel - centre) / focal length.

  Brown-Conrady with OpenCV's order of coefficients, (k1, k2, p1, p2, k3).
  """
  x, y = xy[..., 0], xy[..., 1]
  k1, k2, p1, p2, k3 = _per_pixel(coefficients, x.ndim)
  r2 = x * x + y * y
  radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
  return jnp.stack(
    [
      x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
      y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    ],
    axis=-1,
  )


def undistort(
  xy: Float[Array, "B *k 2"], coefficients: Float[Array, "B 5"], steps: int = 12
) -> Float[Array, "B *k 2"]:
  """Returns the coordinates that `distort` maps to `xy`, by Newton steps from `xy`.

  Within the field of view of a real lens they converge up to rounding; OpenCV's five fixed-point
  steps leave errors of up to 1e-4.
  """

  def newton(guess: Array, _: None) -> tuple[Array, None]:
    value, pull = jax.vjp(lambda p: distort(p, coefficients), guess)
    rows = [pull(jnp.zeros_like(value).at[..., i].set(1.0))[0] for i in (0, 1)]
    (a, b), (c, d) = ((row[..., 0], row[..., 1]) for row in rows)
    error = value - xy
    determinant = a * d - b * c
    safe = jnp.where(determinant == 0, 1.0, determinant)
    x = (d * error[..., 0] - b * error[..., 1]) / safe
    y = (a * error[..., 1] - c * error[..., 0]) / safe
    return guess - jnp.stack([x, y], axis=-1), None

  return jax.lax.scan(newton, xy, None, length=steps)[0]


# --- depth and disparity --------------------------------------------------------------------------


def disparity_to_depth(
  share: Float[Array, "..."], nearest: float = 0.1, farthest: float = 100.0
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
  """Returns (inverse depth, depth) of a network's output in [0, 1], as in monodepth2."""
  scaled = 1 / farthest + (1 / nearest - 1 / farthest) * share
  return scaled, 1 / scaled


def stereo_disparity(
  depth: Float[Array, "B H W"], intrinsics: Float[Array, "B 4"], baseline_m: Float[Array, ""]
) -> Float[Array, "B H W"]:
  """Returns the disparity in pixels of a rectified pair; of a disparity, the depth."""
  return baseline_m * _per_pixel(intrinsics, depth.ndim)[0] / depth
