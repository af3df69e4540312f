"""Distillation: a pipeline learns from its sequential twin, whose answers are not late.

  targets, registers = shown(cut, twin_params, twin_registers, frames, targets)
  loss = distilled(loss, agreement)        # for `gradients`, or over the answers of `Pipeline.unroll`

The twin is the same model in one stage; what it says of a frame is there at that frame's tick, so that
a pipeline that is told so learns to make up for its delay, as it does from labels of the present.

It can be told what every stage should leave, too: `Pipeline(cut, tells_all=True)` with `activations`.

Source: our reading of Carreira et al. 2018, 1806.03863, which matches activations.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.execution.partition import Params, Partition, partition
from perceiver_stream.execution.pipeline import Pipeline, Registers
from perceiver_stream.execution.teaching import Loss
from perceiver_stream.models.stages import Values

TeacherTarget = tuple[PyTree, Values]  # a target, and the twin's output


def sequential_teacher(made: Partition) -> Pipeline:
  """Returns the same model in one stage; it answers with all that the stages of `made` leave."""
  left = {name for stage in made.stages for name in stage.writes} - set(made.staged.inputs)
  outputs = (*made.staged.outputs, *sorted(left - set(made.staged.outputs)))
  return Pipeline(partition(made.staged._replace(outputs=outputs), 1))


def shown(
  made: Partition,
  params: Params,
  registers: Registers,
  frames: Mapping[str, PyTree],
  targets: PyTree,
) -> tuple[TeacherTarget, Registers]:
  """Returns the targets of T ticks with the twin's outputs, and the twin's registers after them.

  Args:
    made: The pipeline's cut.
    params: Of the twin, which learns nothing.
    registers: As `sequential_teacher(made).initial` or the last call gives them.
    frames: Of T ticks, `[T, B, ...]`.
    targets: Of T ticks.
  """
  answers, registers = sequential_teacher(made).unroll(params, registers, frames)
  return (targets, jax.lax.stop_gradient(answers)), registers


def distilled(
  loss: Loss, agreement: Callable[[Values, Values], Float[Array, ""]], weight: float = 1.0
) -> Callable[[Values, TeacherTarget], Float[Array, ""]]:
  """Returns a loss of an answer and of one tick of what `shown` returns.

  Args:
    loss: `(answer, target) -> scalar`.
    agreement: `(answer, twin's answer) -> scalar`, the smaller, the more alike.
    weight: Of the agreement.
  """

  def total(answer: Values, lesson: TeacherTarget) -> Float[Array, ""]:
    target, told = lesson
    return loss(answer, target) + weight * agreement(answer, told)

  return total


def activations(answer: Values, told: Values) -> Float[Array, ""]:
  """Returns the distance of registers from the twin's: squares over their variance, mean of all.

  Args:
    answer: Of a pipeline that `tells_all`, at one tick.
    told: The twin's. Registers that the answer does not have, and numbers that are not real, do not
      count.
  """
  pairs = zip(jax.tree.leaves(answer), jax.tree.leaves({n: told[n] for n in answer}), strict=True)
  real = [(mine, its) for mine, its in pairs if jnp.issubdtype(its.dtype, jnp.floating)]
  apart = [jnp.mean(jnp.square(mine - its)) / (jnp.var(its) + 1e-6) for mine, its in real]
  return jnp.mean(jnp.stack(apart))
