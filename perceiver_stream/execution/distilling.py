"""Distillation: a pipeline learns from its sequential twin, whose answers are not late.

  targets, registers = shown(cut, twin_params, twin_registers, frames, targets)
  loss = distilled(loss, agreement)        # for `gradients`, or over the answers of `Pipeline.unroll`

The twin is the same model in one stage; what it says of a frame is there at that frame's tick, so that
a pipeline that is told so learns to make up for its delay, as it does from labels of the present.

Source: our reading of Carreira et al. 2018, 1806.03863, which matches activations; we match answers.
"""

from collections.abc import Callable, Mapping

import jax
from jaxtyping import Array, Float, PyTree

from perceiver_stream.execution.cut import Cut, Params, cut
from perceiver_stream.execution.pipeline import Pipeline, Registers
from perceiver_stream.execution.teaching import Loss
from perceiver_stream.models.staged import Values

Lesson = tuple[PyTree, Values]  # a target, and what the twin answers


def twin(made: Cut) -> Pipeline:
  """Returns the same model in one stage."""
  return Pipeline(cut(made.staged, 1))


def shown(
  made: Cut, params: Params, registers: Registers, frames: Mapping[str, PyTree], targets: PyTree
) -> tuple[Lesson, Registers]:
  """Returns the targets of T ticks with the twin's answers, and the twin's registers after them.

  Args:
    made: The pipeline's cut.
    params: Of the twin, which learns nothing.
    registers: As `twin(made).initial` or the last call gives them.
    frames: Of T ticks, `[T, B, ...]`.
    targets: Of T ticks.
  """
  answers, registers = twin(made).unroll(params, registers, frames)
  return (targets, jax.lax.stop_gradient(answers)), registers


def distilled(
  loss: Loss, agreement: Callable[[Values, Values], Float[Array, ""]], weight: float = 1.0
) -> Callable[[Values, Lesson], Float[Array, ""]]:
  """Returns a loss of an answer and of one tick of what `shown` returns.

  Args:
    loss: `(answer, target) -> scalar`.
    agreement: `(answer, twin's answer) -> scalar`, the smaller, the more alike.
    weight: Of the agreement.
  """

  def total(answer: Values, lesson: Lesson) -> Float[Array, ""]:
    target, told = lesson
    return loss(answer, target) + weight * agreement(answer, told)

  return total
