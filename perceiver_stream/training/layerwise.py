"""Steps that differ from parameter to parameter: LARS, and factors of gradients by path."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from perceiver_stream.models.mapping import flatten, unflatten


def is_bias_or_norm(path: str) -> bool:
  """Returns True if a parameter is called `b`, or its module's last name has "norm" in it.

  >>> [is_bias_or_norm(path) for path in ("head/linear/b", "a/norm_0/scale", "norm/conv/w")]
  [True, True, False]
  """
  module, leaf = path.rsplit("/", 1)
  return leaf == "b" or "norm" in module.rsplit("/", 1)[-1]


# Arrays that have weight decay and trust ratio.
LARS_MASKS: dict[str, Callable[[str], bool]] = {
  "paper": lambda path: not is_bias_or_norm(path),
  "as_released": is_bias_or_norm,
}


def lars(
  schedule: optax.Schedule,
  *,
  momentum: float,
  weight_decay: float,
  trust_coefficient: float,
  nesterov: bool,
  mask: str,
) -> optax.GradientTransformation:
  """Returns LARS: decay and trust ratio on masked arrays, then learning rate, then momentum.

  Where the mask is False, arrays have neither. The state does not depend on the numbers and the mask.

  Args:
    schedule: Learning rate by the number of steps.
    momentum: Decay of the sum of steps.
    weight_decay: Share of a parameter that is added to its gradient.
    trust_coefficient: Norm of a step, as a share of the parameter's norm, at a learning rate of 1.
    nesterov: Whether the momentum looks ahead.
    mask: One of `LARS_MASKS`.

  Source: Large Batch Training of Convolutional Networks, 1708.03888; optax.lars; masks of
  google-deepmind/brave, brave/training/optimizers.py.
  """
  masked = lambda params: by_path(LARS_MASKS[mask], params)  # noqa: E731
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask=masked),
    optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient), masked),
    optax.scale_by_learning_rate(schedule),
    optax.trace(momentum, nesterov),
  )


def scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
  """Returns gradients times the factors of all expressions that match the start of their path.

  Raises:
    ValueError: In `init`: an expression matches no parameter.
  """

  def init(params: Any) -> optax.EmptyState:
    paths = list(flatten(params))
    for pattern in factors:
      if not any(re.match(pattern, path) for path in paths):
        raise ValueError(
          f"optimizer.gradient_factors: {pattern!r} matches none of {len(paths)} parameters, as "
          f"{', '.join(paths[:3])}; correct the expression or remove it."
        )
    return optax.EmptyState()

  def factor(path: str) -> float:
    found = 1.0
    for pattern, value in factors.items():
      found *= value if re.match(pattern, path) else 1.0
    return found

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    del params
    return jax.tree.map(lambda f, g: f * g, by_path(factor, updates), updates), state

  return optax.GradientTransformation(init, update)


def by_path(function: Callable[[str], Any], params: Any) -> Any:
  """Returns the tree of `function(path)`, for two-level trees of parameters."""
  return unflatten({path: function(path) for path in flatten(params)})
