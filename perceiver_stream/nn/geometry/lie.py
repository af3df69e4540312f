"""The groups SO(3), SE(3) and Sim(3): exponentials, logarithms, inverses, adjoint.

Every function of an angle is written in terms of its square, t = w . w, and is a Taylor polynomial
for t < 1. There is no square root of zero and no division by zero, and gradients are exact at w =
0, the initial output of pose networks.

Differs from gvnn: `Rt(v, w)` is its 6-parameter layer, which does not change the translation;
`se3_exp` is the exponential of the group, whose translation is V(w) v.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# --- functions of t = |w|^2 -----------------------------------------------------------------------

_TERMS = 10  # of the Taylor polynomials; at t = 1 the next one is below 1e-18
_SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(_TERMS)]
_COS = [(-1) ** n / math.factorial(2 * n + 2) for n in range(_TERMS)]
_CUBE = [(-1) ** n / math.factorial(2 * n + 3) for n in range(_TERMS)]
# |B_2n| / (2n)! = 2 zeta(2n) / (2 pi)^2n, with zeta by its series: the coefficients of 1 - x cot x.
_ZETA = [math.fsum(k ** (-2.0 * n) for k in range(1, 3000)) for n in range(1, _TERMS + 4)]
_ZETA[0], _ZETA[1] = math.pi**2 / 6, math.pi**4 / 90
_COT = [2 * z / (2 * math.pi) ** (2 * n) for n, z in enumerate(_ZETA, 1)]


def _polynomial(coefficients: Sequence[float], t: Array) -> Array:
  total = jnp.full_like(t, coefficients[-1])
  for coefficient in reversed(coefficients[:-1]):
    total = total * t + coefficient
  return total


def _split(t: Array) -> tuple[Array, Array, Array, Array]:
  """Returns (t < 1, t if small else 0, t if large else 1, and the root of the latter)."""
  small = t < 1.0
  large = jnp.where(small, 1.0, t)
  return small, jnp.where(small, t, 0.0), large, jnp.sqrt(large)


def sin_over(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Returns sin(a) / a of an angle a with a^2 = t."""
  small, near, _, angle = _split(t)
  return jnp.where(small, _polynomial(_SIN, near), jnp.sin(angle) / angle)


def one_minus_cos_over(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Returns (1 - cos(a)) / a^2 of an angle a with a^2 = t."""
  small, near, large, angle = _split(t)
  return jnp.where(small, _polynomial(_COS, near), (1 - jnp.cos(angle)) / large)


def angle_minus_sin_over(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Returns (a - sin(a)) / a^3 of an angle a with a^2 = t."""
  small, near, large, angle = _split(t)
  return jnp.where(small, _polynomial(_CUBE, near), (angle - jnp.sin(angle)) / (large * angle))


def _one_minus_half_cot_over(t: Array) -> Array:
  """Returns (1 - a/2 cot(a/2)) / a^2 of an angle a in [0, 2 pi) with a^2 = t."""
  small, near, large, angle = _split(t)
  far = (1 - 0.5 * angle * jnp.cos(angle / 2) / jnp.sin(angle / 2)) / large
  return jnp.where(small, _polynomial(_COT, near), far)


# --- matrices -------------------------------------------------------------------------------------


def hat(w: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
  """Returns the matrix of the cross product: `hat(w) x = w × x`."""
  x, y, z = w[..., 0], w[..., 1], w[..., 2]
  zero = jnp.zeros_like(x)
  rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def apply(matrix: Float[Array, "*n i j"], vector: Float[Array, "*n j"]) -> Float[Array, "*n i"]:
  """Returns matrix times vector over the leading axes."""
  return jnp.einsum("...ij,...j->...i", matrix, vector)


def _identity(like: Array) -> Array:
  return jnp.broadcast_to(jnp.eye(like.shape[-1], dtype=like.dtype), like.shape)


def _series(a: Array, b: Array, c: Array, w: Array) -> Array:
  """Returns a I + b hat(w) + c hat(w)^2."""
  cross = hat(w)
  a, b, c = (x[..., None, None] for x in (a, b, c))
  return a * _identity(cross) + b * cross + c * (cross @ cross)


def _join(upper_left: Float[Array, "*n 3 3"], translation: Float[Array, "*n 3"]) -> Array:
  """Returns `[..., 4, 4]` with last row (0, 0, 0, 1)."""
  top = jnp.concatenate([upper_left, translation[..., None]], axis=-1)
  last = jnp.asarray([0.0, 0.0, 0.0, 1.0], top.dtype)
  last = jnp.broadcast_to(last, (*top.shape[:-2], 1, 4))
  return jnp.concatenate([top, last], axis=-2)


def transform(
  pose: Float[Array, "*n 4 4"], points: Float[Array, "*n k 3"]
) -> Float[Array, "*n k 3"]:
  """Returns points moved by a pose (or a similarity)."""
  moved = jnp.einsum("...ij,...kj->...ki", pose[..., :3, :3], points)
  return moved + pose[..., None, :3, 3]


# --- SO(3) ----------------------------------------------------------------------------------------


def so3_exp(w: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
  """Returns the rotation by |w| radians about w.

  gvnn's layer takes I + hat(w) where |w|^2 <= 1e-12; this is exact at any angle.
  """
  t = jnp.sum(w * w, axis=-1)
  return _series(jnp.ones_like(t), sin_over(t), one_minus_cos_over(t), w)


def so3_log(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 3"]:
  """Returns the rotation vector of length at most pi. At pi its sign is free."""
  return quaternion_log(quaternion_of(rotation))


def left_jacobian(w: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
  """Returns V(w), the mean of the rotations exp(s hat(w)) over s in [0, 1]."""
  t = jnp.sum(w * w, axis=-1)
  return _series(jnp.ones_like(t), one_minus_cos_over(t), angle_minus_sin_over(t), w)


def left_jacobian_inverse(w: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
  """Returns the inverse of V(w), for |w| < 2 pi."""
  t = jnp.sum(w * w, axis=-1)
  one = jnp.ones_like(t)
  return _series(one, -0.5 * one, _one_minus_half_cot_over(t), w)


def quaternion_of(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 4"]:
  """Returns the unit quaternion (w, x, y, z), w >= 0, of a rotation matrix.

  Four times the outer product of the quaternion with itself is linear in the matrix. Its row with
  the largest diagonal entry, divided by the root of that entry, has no cancellation at any angle.
  """
  r = lambda i, j: rotation[..., i, j]  # noqa: E731
  one = jnp.ones_like(r(0, 0))
  w, x, y = r(2, 1) - r(1, 2), r(0, 2) - r(2, 0), r(1, 0) - r(0, 1)
  xy, xz, yz = r(0, 1) + r(1, 0), r(0, 2) + r(2, 0), r(1, 2) + r(2, 1)
  rows = [
    [one + r(0, 0) + r(1, 1) + r(2, 2), w, x, y],
    [w, one + r(0, 0) - r(1, 1) - r(2, 2), xy, xz],
    [x, xy, one - r(0, 0) + r(1, 1) - r(2, 2), yz],
    [y, xz, yz, one - r(0, 0) - r(1, 1) + r(2, 2)],
  ]
  outer = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
  diagonal = jnp.diagonal(outer, axis1=-2, axis2=-1)
  best = jnp.argmax(diagonal, axis=-1)[..., None]
  row = jnp.take_along_axis(outer, best[..., None], axis=-2)[..., 0, :]
  quaternion = row / (2 * jnp.sqrt(jnp.take_along_axis(diagonal, best, axis=-1)))
  return jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)


_ASIN = [math.comb(2 * k, k) / (4.0**k * (2 * k + 1)) for k in range(_TERMS)]


def quaternion_log(quaternion: Float[Array, "*n 4"]) -> Float[Array, "*n 3"]:
  """Returns the rotation vector of a unit quaternion with w >= 0."""
  real, vector = quaternion[..., 0], quaternion[..., 1:]
  s = jnp.sum(vector * vector, axis=-1)
  small = s < 0.01
  length = jnp.sqrt(jnp.where(small, 1.0, s))
  far = jnp.arctan2(length, jnp.where(small, 0.0, real)) / length
  half = jnp.where(small, _polynomial(_ASIN, jnp.where(small, s, 0.0)), far)
  return 2 * half[..., None] * vector


# --- SE(3) ----------------------------------------------------------------------------------------


def se3_exp(twist: Float[Array, "*n 6"]) -> Float[Array, "*n 4 4"]:
  """Returns the pose of a twist (v, w): rotation exp(hat(w)), translation V(w) v."""
  v, w = twist[..., :3], twist[..., 3:]
  return _join(so3_exp(w), apply(left_jacobian(w), v))


def rotation_translation(twist: Float[Array, "*n 6"]) -> Float[Array, "*n 4 4"]:
  """Returns the pose with rotation exp(hat(w)) and translation v itself.

  gvnn's 6-parameter layer, which is not the exponential of the group; it takes (w, v).
  """
  return _join(so3_exp(twist[..., 3:]), twist[..., :3])


def se3_log(pose: Float[Array, "*n 4 4"]) -> Float[Array, "*n 6"]:
  """Returns the twist (v, w) of a pose, with |w| at most pi."""
  w = so3_log(pose[..., :3, :3])
  return jnp.concatenate([apply(left_jacobian_inverse(w), pose[..., :3, 3]), w], axis=-1)


def se3_inverse(pose: Float[Array, "*n 4 4"]) -> Float[Array, "*n 4 4"]:
  """Returns the inverse of a pose."""
  back = jnp.swapaxes(pose[..., :3, :3], -1, -2)
  return _join(back, -apply(back, pose[..., :3, 3]))


def se3_adjoint(pose: Float[Array, "*n 4 4"]) -> Float[Array, "*n 6 6"]:
  """Returns the matrix that moves twists (v, w) from the pose's frame to the world's."""
  rotation = pose[..., :3, :3]
  top = jnp.concatenate([rotation, hat(pose[..., :3, 3]) @ rotation], axis=-1)
  bottom = jnp.concatenate([jnp.zeros_like(rotation), rotation], axis=-1)
  return jnp.concatenate([top, bottom], axis=-2)


# --- Sim(3) ---------------------------------------------------------------------------------------

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)  # on [0, 1] below; exact for |w|, |s| < 20
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def _sim3_jacobian(w: Float[Array, "*n 3"], s: Float[Array, "*n"]) -> Float[Array, "*n 3 3"]:
  """Returns the mean of exp(u s) exp(u hat(w)) over u in [0, 1], by Gauss-Legendre quadrature.

  The closed form divides by s and by |w| in four regimes; the integrand has none.
  """
  t = jnp.sum(w * w, axis=-1)[..., None]
  shape = (*s.shape, _NODES.size)
  u = jnp.broadcast_to(jnp.asarray(_NODES, t.dtype), shape)
  weight = jnp.broadcast_to(jnp.asarray(_WEIGHTS, t.dtype), shape) * jnp.exp(u * s[..., None])
  angle2 = u * u * t
  constant = jnp.sum(weight, axis=-1)
  linear = jnp.sum(weight * u * sin_over(angle2), axis=-1)
  square = jnp.sum(weight * u * u * one_minus_cos_over(angle2), axis=-1)
  return _series(constant, linear, square, w)


def sim3_exp(twist: Float[Array, "*n 7"]) -> Float[Array, "*n 4 4"]:
  """Returns the similarity of (v, w, s): scale e^s, rotation exp(hat(w)), exact translation."""
  v, w, s = twist[..., :3], twist[..., 3:6], twist[..., 6]
  scaled = jnp.exp(s)[..., None, None] * so3_exp(w)
  return _join(scaled, apply(_sim3_jacobian(w, s), v))


def sim3_log(similarity: Float[Array, "*n 4 4"]) -> Float[Array, "*n 7"]:
  """Returns (v, w, s) of a similarity, with |w| at most pi."""
  upper = similarity[..., :3, :3]
  s = 0.5 * jnp.log(jnp.mean(jnp.sum(upper * upper, axis=-1), axis=-1))
  w = so3_log(upper * jnp.exp(-s)[..., None, None])
  translation = similarity[..., :3, 3:]
  v = jnp.linalg.solve(_sim3_jacobian(w, s), translation)[..., 0]
  return jnp.concatenate([v, w, s[..., None]], axis=-1)


def sim3_inverse(similarity: Float[Array, "*n 4 4"]) -> Float[Array, "*n 4 4"]:
  """Returns the inverse of a similarity."""
  upper = similarity[..., :3, :3]
  scale2 = jnp.mean(jnp.sum(upper * upper, axis=-1), axis=-1)[..., None, None]
  back = jnp.swapaxes(upper, -1, -2) / scale2
  return _join(back, -apply(back, similarity[..., :3, 3]))
