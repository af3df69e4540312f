"""Regression of one unit vector onto another: BYOL's and BraVe's loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def floored_unit(x: Float[Array, "... D"], floor: float = 1e-5) -> Float[Array, "... D"]:
  """Returns x / max(‖x‖, floor), with a finite gradient at zero."""
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  small = square <= floor**2
  norm = jnp.sqrt(jnp.where(small, 1.0, square))
  return x / jnp.where(small, floor, norm)


def cosine_regression(
  prediction: Float[Array, "... D"], target: Float[Array, "... D"], *, floor: float = 1e-5
) -> Float[Array, "..."]:
  """Returns ½‖p/‖p‖ - t/‖t‖‖² of each pair, 1 - cosine for vectors longer than the floor.

  Of a zero vector it is ½, whatever the other one. Gradients reach both; stop that of the target to
  train by it (`bootstrap_regression`).

  Args:
    prediction: Any length and scale.
    target: As many.
    floor: Least norm that vectors are divided by.

  Source: google-deepmind/brave, brave/models/brave/brave.py.
  """
  difference = floored_unit(prediction, floor) - floored_unit(target, floor)
  return 0.5 * jnp.sum(jnp.square(difference), axis=-1)


def bootstrap_regression(
  prediction: Float[Array, "B D"],
  target: Float[Array, "B D"],
  *,
  stop_gradient: bool = True,
  valid: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
  """Returns the mean `cosine_regression` over a batch, without gradient to the target.

  Args:
    prediction: Output of a predictor on one view.
    target: Projection of the other view.
    stop_gradient: If False, the gradient reaches the target too: the ablation that collapses.
    valid: False for pairs that do not count; 0 if none does. None: all count.
  """
  target = jax.lax.stop_gradient(target) if stop_gradient else target
  error = cosine_regression(prediction, target)
  if valid is None:
    return jnp.mean(error)
  return jnp.sum(jnp.where(valid, error, 0.0)) / jnp.maximum(
    jnp.sum(valid.astype(error.dtype)), 1.0
  )
