"""Representations of rotations: Euler angles, quaternions, 6 and 9 numbers; distance and slerp."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.geometry.lie import (
  apply,
  quaternion_of,
  so3_exp,
  so3_log,
)


def _about(axis: int, angle: Float[Array, "*n"]) -> Float[Array, "*n 3 3"]:
  """Returns the rotation about a coordinate axis (0 is x)."""
  unit = jax.nn.one_hot(axis, 3, dtype=angle.dtype)
  return so3_exp(angle[..., None] * jnp.broadcast_to(unit, (*angle.shape, 3)))


def _product(*factors: tuple[int, int, int]) -> Callable[[Array], Array]:
  """Returns a function of angles `[..., 3]`; a factor is (axis, index of its angle, sign)."""

  def rotation(angles: Array) -> Array:
    first, second, third = (_about(axis, sign * angles[..., i]) for axis, i, sign in factors)
    return first @ second @ third

  return rotation


# Products of rotations about coordinate axes, leftmost factor first.
EULER = {
  "extrinsic_xyz": _product((2, 2, 1), (1, 1, 1), (0, 0, 1)),
  "extrinsic_zyx": _product((0, 2, 1), (1, 1, 1), (2, 0, 1)),
  "intrinsic_xyz": _product((0, 0, 1), (1, 1, 1), (2, 2, 1)),
  "intrinsic_zyx": _product((2, 0, 1), (1, 1, 1), (0, 2, 1)),
  # gvnn's Euler layer (phi, theta, psi) is passive, its SO(3) layer active.
  "gvnn_phi_theta_psi": _product((2, 0, -1), (1, 1, -1), (0, 2, -1)),
  "sfmlearner_xyz": _product((0, 0, 1), (1, 1, 1), (2, 2, 1)),
}


def from_euler(
  angles: Float[Array, "*n 3"], order: str = "intrinsic_xyz"
) -> Float[Array, "*n 3 3"]:
  """Returns the rotation of three angles in radians; `order` is a key of `EULER`.

  Extrinsic orders rotate about fixed axes, the first angle first; intrinsic ones about rotated
  axes.

  Raises:
    ValueError: The order is unknown.
  """
  if order not in EULER:
    raise ValueError(f"from_euler: order='{order}' is not one of {sorted(EULER)}.")
  return EULER[order](angles)


def from_quaternion(raw: Float[Array, "*n 4"]) -> Float[Array, "*n 3 3"]:
  """Returns the rotation of a quaternion (w, x, y, z) of any length but zero."""
  square = jnp.sum(raw * raw, axis=-1, keepdims=True)
  present = square > 0
  unit = jnp.where(present, raw * jax.lax.rsqrt(jnp.where(present, square, 1.0)), 0.0)
  real, vector = unit[..., :1], unit[..., 1:]
  columns = []
  for axis in range(3):  # R e = e + 2 w (v × e) + 2 v × (v × e)
    e = jnp.broadcast_to(jax.nn.one_hot(axis, 3, dtype=raw.dtype), vector.shape)
    turned = jnp.cross(vector, e)
    columns.append(e + 2 * real * turned + 2 * jnp.cross(vector, turned))
  return jnp.stack(columns, axis=-1)


def to_quaternion(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 4"]:
  """Returns the unit quaternion (w, x, y, z), w >= 0, of a rotation."""
  return quaternion_of(rotation)


def _unit(vector: Array) -> Array:
  square = jnp.sum(vector * vector, axis=-1, keepdims=True)
  return vector * jax.lax.rsqrt(jnp.where(square > 0, square, 1.0))


def from_six(raw: Float[Array, "*n 6"]) -> Float[Array, "*n 3 3"]:
  """Returns the rotation whose first two columns span those of two 3-vectors.

  Gram-Schmidt; continuous, so a network can output it (Zhou et al. 2019, 1812.07035).
  """
  first = _unit(raw[..., :3])
  second = raw[..., 3:]
  second = _unit(second - jnp.sum(first * second, axis=-1, keepdims=True) * first)
  return jnp.stack([first, second, jnp.cross(first, second)], axis=-1)


@jax.custom_vjp
def from_nine(raw: Float[Array, "*n 3 3"]) -> Float[Array, "*n 3 3"]:
  """Returns the rotation nearest to a matrix, U diag(1, 1, det) V^T (Levinson et al. 2020).

  The gradient is that of the projection and not of the decomposition, so it is finite for equal
  singular values (those of every rotation).
  """
  return _nearest(raw)[0]


def _nearest(raw: Array) -> tuple[Array, tuple[Array, Array, Array]]:
  u, s, vt = jnp.linalg.svd(raw, full_matrices=False)
  sign = jnp.sign(jnp.linalg.det(u @ vt))
  flip = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign], axis=-1)
  vt = flip[..., :, None] * vt
  return u @ vt, (u, s * flip, vt)


def _nearest_backward(
  saved: tuple[Array, Array, Array], cotangent: Float[Array, "*n 3 3"]
) -> tuple[Array]:
  u, s, vt = saved
  inner = jnp.swapaxes(u, -1, -2) @ cotangent @ jnp.swapaxes(vt, -1, -2)
  total = s[..., :, None] + s[..., None, :]
  defined = jnp.abs(total) > jnp.finfo(total.dtype).eps
  turn = (inner - jnp.swapaxes(inner, -1, -2)) / jnp.where(defined, total, 1.0)
  return (u @ jnp.where(defined, turn, 0.0) @ vt,)


from_nine.defvjp(_nearest, _nearest_backward)


def distance(one: Float[Array, "*n 3 3"], other: Float[Array, "*n 3 3"]) -> Float[Array, "*n"]:
  """Returns the angle between two rotations in radians, in [0, pi]; gradient 0 where it is 0."""
  w = so3_log(jnp.swapaxes(one, -1, -2) @ other)
  square = jnp.sum(w * w, axis=-1)
  apart = square > 0
  return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)


def slerp(
  one: Float[Array, "*n 3 3"], other: Float[Array, "*n 3 3"], fraction: Float[Array, "*n"]
) -> Float[Array, "*n 3 3"]:
  """Returns the rotation at a fraction of the shortest path between two rotations."""
  w = so3_log(jnp.swapaxes(one, -1, -2) @ other)
  return one @ so3_exp(fraction[..., None] * w)


def rotate(rotation: Float[Array, "*n 3 3"], point: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
  """Returns a rotated point."""
  return apply(rotation, point)
