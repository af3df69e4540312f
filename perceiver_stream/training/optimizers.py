"""Optimisers and learning-rate schedules by name: one table of each, selected by a config."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from perceiver_stream.training.layerwise import LARS_MASKS, lars, scale_by_path
from perceiver_stream.utils.suggest import check_choice


@dataclass(kw_only=True)
class OptimizerConfig:
  """Optimiser, learning rate and update interval.

  Attributes:
    name: One of `OPTIMIZERS` or `STEPS`.
    learning_rate: Peak learning rate.
    schedule: One of `SCHEDULES`.
    warmup_steps: Optimiser steps of linear warm-up from zero; every schedule begins with it.
    decay_steps: Optimiser steps, warm-up included, after which a decaying schedule is constant.
    final_fraction: Its final value, as a fraction of the peak.
    b1: Momentum, or decay of the first moment.
    b2: Decay of the second moment.
    eps: Added to the root of the second moment.
    weight_decay: Decoupled weight decay; matrices decay, biases and scales do not.
    clip_norm: Largest global norm of a gradient; 0 means no clipping.
    cadence: Windows whose gradients are averaged into one optimiser step.
    orthogonal: Projection of a gradient before it is used: removes the component along the average
      of earlier gradients, over all parameters as one vector ("global") or array by array
      ("tensor"); "" is none.
    orthogonal_decay: Of that average.
    initial_fraction: Learning rate at the start of the warm-up, as a fraction of the peak.
    gradient_factors: Factors of gradients before the optimiser, by regular expression of the
      parameter's path, `module/path/leaf`, from its start; several that match are multiplied. Adam and
      trust ratios cancel them.
    nesterov: In "lars", whether the momentum looks ahead.
    trust_coefficient: In "lars", of the ratio of a parameter's norm to that of its update.
    lars_mask: In "lars", the arrays with weight decay and trust ratio: those that are neither biases nor
      norms ("paper"), or, inverted, only biases and norms ("as_released", BraVe's code; the others
      then have plain momentum).
  """

  name: str = "adamw"
  learning_rate: float = 1e-3
  schedule: str = "constant"
  warmup_steps: int = 0
  decay_steps: int = 1000
  final_fraction: float = 0.1
  b1: float = 0.9
  b2: float = 0.99
  eps: float = 1e-8
  weight_decay: float = 0.0
  clip_norm: float = 1.0
  cadence: int = 1
  orthogonal: str = ""
  orthogonal_decay: float = 0.9
  initial_fraction: float = 0.0
  gradient_factors: dict[str, float] = field(default_factory=dict)
  nesterov: bool = True
  trust_coefficient: float = 1e-3
  lars_mask: str = "paper"

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_choice("optimizer.name", self.name, (*OPTIMIZERS, *STEPS))
    check_choice("optimizer.schedule", self.schedule, SCHEDULES)
    check_choice("optimizer.lars_mask", self.lars_mask, LARS_MASKS)
    if not 0 < self.learning_rate < math.inf:
      raise ValueError(
        f"optimizer.learning_rate={self.learning_rate} must be a number above 0, such as 1e-3."
      )
    for name in _NON_NEGATIVE:
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f"optimizer.{name}={getattr(self, name)} must be a number of 0 or more.")
    for name in ("b1", "b2"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f"optimizer.{name}={getattr(self, name)}; use 0 to below 1.")
    if self.warmup_steps < 0:
      raise ValueError(f"optimizer.warmup_steps={self.warmup_steps}; use 0 (none) or more.")
    if self.orthogonal not in ORTHOGONAL:
      raise ValueError(
        f"optimizer.orthogonal={self.orthogonal!r}; use one of {', '.join(map(repr, ORTHOGONAL))}."
      )
    if not 0 <= self.orthogonal_decay < 1:
      raise ValueError(f"optimizer.orthogonal_decay={self.orthogonal_decay}; use 0 to below 1.")
    if self.cadence < 1:
      raise ValueError(f"optimizer.cadence={self.cadence} must be 1 window or more.")
    if self.schedule != "constant" and self.decay_steps <= self.warmup_steps:
      raise ValueError(
        f"optimizer.decay_steps={self.decay_steps} must be above warmup_steps="
        f"{self.warmup_steps}: it counts the warm-up too."
      )


ORTHOGONAL = ("", "global", "tensor")
_NON_NEGATIVE = (
  *("final_fraction", "initial_fraction", "eps", "weight_decay", "clip_norm"),
  "trust_coefficient",
)


def _decay(c: OptimizerConfig) -> tuple[float, int]:
  return c.learning_rate * c.final_fraction, c.decay_steps - c.warmup_steps


# The schedules after the warm-up, counted from its end.
SCHEDULES: dict[str, Callable[[OptimizerConfig], optax.Schedule]] = {
  "constant": lambda c: optax.constant_schedule(c.learning_rate),
  "linear": lambda c: optax.linear_schedule(c.learning_rate, *_decay(c)),
  "cosine": lambda c: optax.cosine_decay_schedule(
    c.learning_rate, _decay(c)[1], alpha=c.final_fraction
  ),
}

# A direction of about unit size; the schedule scales it.
OPTIMIZERS: dict[str, Callable[[OptimizerConfig], optax.GradientTransformation]] = {
  "adamw": lambda c: optax.scale_by_adam(c.b1, c.b2, c.eps),
  "lion": lambda c: optax.scale_by_lion(c.b1, c.b2),
  "rmsprop": lambda c: optax.chain(optax.scale_by_rms(c.b2, c.eps), _momentum(c)),
  "sgd": lambda c: _momentum(c),
}

# Whole steps, which include decay and learning rate, because momentum follows them.
STEPS: dict[str, Callable[[OptimizerConfig], optax.GradientTransformation]] = {
  "lars": lambda c: lars(
    make_schedule(c),
    momentum=c.b1,
    weight_decay=c.weight_decay,
    trust_coefficient=c.trust_coefficient,
    nesterov=c.nesterov,
    mask=c.lars_mask,
  ),
}


def _momentum(c: OptimizerConfig) -> optax.GradientTransformation:
  return optax.trace(c.b1) if c.b1 else optax.identity()


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
  """Returns the learning rate as a function of the number of optimiser steps."""
  after = SCHEDULES[config.schedule](config)
  if not config.warmup_steps:
    return after
  start = config.initial_fraction * config.learning_rate
  warmup = optax.linear_schedule(start, config.learning_rate, config.warmup_steps)
  return optax.join_schedules([warmup, after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Returns the optimiser of a config, stepping every `cadence` windows.

  The order: orthogonal gradients, factors, clipping, optimiser, decay, schedule. The state is the same with
  and without clipping and decay, so that a run can be resumed with other values of them.
  """
  config.validate()
  parts = []
  if config.orthogonal:
    parts.append(orthogonal(config.orthogonal_decay, by_tensor=config.orthogonal == "tensor"))
  clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
  if config.gradient_factors:
    parts.append(scale_by_path(config.gradient_factors))
  if config.name in STEPS:
    return every(config.cadence, _relaxed(optax.chain(*parts, clip, STEPS[config.name](config))))
  direction = _decayed(OPTIMIZERS[config.name](config), config.weight_decay)
  rate = optax.scale_by_learning_rate(make_schedule(config))
  return every(config.cadence, _relaxed(optax.chain(*parts, clip, direction, rate)))


def _decayed(
  direction: optax.GradientTransformation, weight_decay: float
) -> optax.GradientTransformation:
  """Returns `direction` with stateless weight decay."""
  if not weight_decay:
    return direction
  decay = optax.add_decayed_weights(weight_decay, mask=_matrices)

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    updates, state = direction.update(updates, state, params)
    return decay.update(updates, decay.init(params), params)[0], state

  return optax.GradientTransformation(direction.init, update)


class OrthogonalState(NamedTuple):
  """State of `orthogonal`: the average of the unprojected gradients."""

  average: Any


def orthogonal(decay: float, *, by_tensor: bool = False) -> optax.GradientTransformation:
  """Returns gradients without their component along the average c of earlier ones: ⟨u, c⟩ = 0.

  u = g - ⟨g, c⟩ / ⟨c, c⟩ c, then c ← decay c + (1 - decay) g. Successive clips of a stream have similar
  gradients, and their common component would be applied over and over.

  Args:
    decay: Of the average.
    by_tensor: Project each array as a vector of its own; otherwise all together as one. The paper
      does not specify which.

  Source: Learning from Streaming Video with Orthogonal Gradients (CVPR 2025), 2504.01961.
  """

  def init(params: Any) -> OrthogonalState:
    return OrthogonalState(jax.tree.map(jnp.zeros_like, params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, OrthogonalState]:
    del params
    dots = lambda a, b: jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)  # noqa: E731
    along, size = dots(updates, state.average), dots(state.average, state.average)
    if not by_tensor:
      along, size = (jax.tree.map(lambda _, x=x: optax.tree.sum(x), x) for x in (along, size))
    without = lambda g, c, a, s: g - jnp.where(s > 0, a / jnp.where(s > 0, s, 1), 0) * c  # noqa: E731
    new = jax.tree.map(without, updates, state.average, along, size)
    average = jax.tree.map(lambda c, g: decay * c + (1 - decay) * g, state.average, updates)
    return new, OrthogonalState(average)

  return optax.GradientTransformation(init, update)


class EveryState(NamedTuple):
  """State of `every`: windows so far, the sum of their gradients, the optimiser's own state."""

  count: Int[Array, ""]
  gradients: Any
  inner: Any


def every(cadence: int, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Returns `optimizer` stepping on the mean of `cadence` gradients; other updates are zero.

  Not `optax.MultiSteps`, which computes the whole step at every window and then discards it.
  """
  if cadence == 1:
    return optimizer

  def init(params: Any) -> EveryState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return EveryState(jnp.zeros((), jnp.int32), zeros, optimizer.init(params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, EveryState]:
    total = jax.tree.map(jnp.add, state.gradients, updates)
    zeros = jax.tree.map(jnp.zeros_like, total)

    def step() -> tuple[Any, EveryState]:
      mean = jax.tree.map(lambda g: g / cadence, total)
      step_updates, inner = optimizer.update(mean, state.inner, params)
      return step_updates, EveryState(jnp.zeros_like(state.count), zeros, inner)

    def wait() -> tuple[Any, EveryState]:
      return zeros, EveryState(state.count + 1, total, state.inner)

    return jax.lax.cond(state.count == cadence - 1, step, wait)

  return optax.GradientTransformation(init, update)


def _relaxed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Returns `optimizer` without strict dtype promotion, which optax's adam does not support."""

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    with jax.numpy_dtype_promotion("standard"):
      return optimizer.update(updates, state, params)

  return optax.GradientTransformation(optimizer.init, update)


def _matrices(params: Any) -> Any:
  return jax.tree.map(lambda p: p.ndim >= 2, params)
