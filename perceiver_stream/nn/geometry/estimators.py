"""M-estimators: robust costs of a residual, their influence, and weights for reweighted least squares.

Source: the table of Zhang 1997, Parameter estimation techniques. The paper of gvnn names L2, Huber,
Cauchy and Tukey; its repository contains none of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Function = Callable[[Array, Array], Array]


def absolute(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns |x| with gradient 0 at 0, where `jnp.abs` has 1."""
  return x * jax.lax.stop_gradient(jnp.sign(x))


class Estimator(NamedTuple):
  """A robust cost. Functions take residuals and the scale c, arrays of the same shape.

  Attributes:
    rho: The cost, 0 at 0.
    influence: Its derivative.
    weight: Influence over residual, 1 at 0 (1 / |r| for L1, bounded there).
    scale: c with 95 % efficiency for normal residuals of deviation 1, if published.
  """

  rho: Function
  influence: Function
  weight: Function
  scale: float = 1.0


def _l1_weight(r: Array, c: Array) -> Array:
  apart = r != 0
  return jnp.where(apart, 1 / jnp.where(apart, jnp.abs(r), 1.0), 1.0)


def _huber_rho(r: Array, c: Array) -> Array:
  size = jnp.abs(r)
  return jnp.where(size <= c, 0.5 * r * r, c * (size - 0.5 * c))


def _huber_weight(r: Array, c: Array) -> Array:
  size = jnp.abs(r)
  near = size <= c
  return jnp.where(near, 1.0, c / jnp.where(near, 1.0, size))


def _cut(r: Array, c: Array) -> Array:
  """Returns 1 - (r / c)^2, and 0 beyond c."""
  return jnp.maximum(1 - (r / c) ** 2, 0.0)


def _with_weight(rho: Function, weight: Function, scale: float = 1.0) -> Estimator:
  return Estimator(rho, lambda r, c: r * weight(r, c), weight, scale)


ESTIMATORS = {
  "l2": _with_weight(lambda r, c: 0.5 * r * r, lambda r, c: jnp.ones_like(r)),
  "l1": Estimator(lambda r, c: absolute(r), lambda r, c: jnp.sign(r), _l1_weight),
  "huber": _with_weight(_huber_rho, _huber_weight, 1.345),
  "cauchy": _with_weight(
    lambda r, c: 0.5 * c * c * jnp.log1p((r / c) ** 2), lambda r, c: 1 / (1 + (r / c) ** 2), 2.3849
  ),
  "tukey": _with_weight(
    lambda r, c: c * c / 6 * (1 - _cut(r, c) ** 3), lambda r, c: _cut(r, c) ** 2, 4.6851
  ),
  "geman_mcclure": _with_weight(
    lambda r, c: 0.5 * r * r / (1 + (r / c) ** 2), lambda r, c: 1 / (1 + (r / c) ** 2) ** 2
  ),
  "charbonnier": _with_weight(
    lambda r, c: c * c * (jnp.sqrt(1 + (r / c) ** 2) - 1),
    lambda r, c: jax.lax.rsqrt(1 + (r / c) ** 2),
  ),
  "welsch": _with_weight(
    lambda r, c: -0.5 * c * c * jnp.expm1(-((r / c) ** 2)), lambda r, c: jnp.exp(-((r / c) ** 2))
  ),
}


def get(name: str) -> Estimator:
  """Returns an estimator by name.

  Raises:
    ValueError: The name is unknown.
  """
  if name not in ESTIMATORS:
    raise ValueError(f"estimators: '{name}' is not one of {sorted(ESTIMATORS)}.")
  return ESTIMATORS[name]


def mad_scale(residuals: Float[Array, " N"]) -> Float[Array, ""]:
  """Returns 1.4826 times the median absolute deviation: a robust standard deviation."""
  return 1.4826 * jnp.median(jnp.abs(residuals - jnp.median(residuals)))


def location(values: Float[Array, " N"], name: str = "tukey", steps: int = 50) -> Float[Array, ""]:
  """Returns a robust mean by iteratively reweighted least squares, from the median.

  The scale of the residuals is fixed at `mad_scale` times the estimator's own.
  """
  chosen = get(name)
  scale = mad_scale(values)
  unit = jnp.where(scale > 0, scale, 1.0)
  c = jnp.full_like(values, chosen.scale)

  def step(centre: Array, _: None) -> tuple[Array, None]:
    weight = chosen.weight((values - centre) / unit, c)
    total = jnp.sum(weight)
    mean = jnp.sum(weight * values) / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, mean, centre), None

  return jax.lax.scan(step, jnp.median(values), None, length=steps)[0]
