"""Distillation: a pipeline learns from the sequential model, whose answers are not delayed.

  targets, registers = shown(made, teacher_params, teacher_registers, frames, targets)
  loss = distilled(loss, agreement)        # for `gradients`, or over the answers of `Pipeline.unroll`

The teacher is the same model in one stage; its answer to a frame is available at that frame's tick.
A pipeline trained to match it learns to compensate its own delay, as with labels of the present.

The outputs of every stage can be matched, too: `Pipeline(made, tells_all=True)` with `activations`.

Source: our version of Carreira et al. 2018, 1806.03863, which matches activations.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.execution.partition import Params, Partition, partition
from perceiver_stream.execution.pipeline import Pipeline, Registers
from perceiver_stream.execution.teaching import Loss
from perceiver_stream.models.stages import Values

TeacherTarget = tuple[PyTree, Values]  # a target, and the teacher's output


def sequential_teacher(made: Partition) -> Pipeline:
  """Returns the same model in one stage; its answer has the outputs of all stages of `made`."""
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
  """Returns the targets of T ticks with the teacher's outputs, and the teacher's registers after them.

  Args:
    made: The pipeline's partition.
    params: Of the teacher, which is not trained.
    registers: From `sequential_teacher(made).initial` or the last call.
    frames: Of T ticks, `[T, B, ...]`.
    targets: Of T ticks.
  """
  answers, registers = sequential_teacher(made).unroll(params, registers, frames)
  return (targets, jax.lax.stop_gradient(answers)), registers


def distilled(
  loss: Loss, agreement: Callable[[Values, Values], Float[Array, ""]], weight: float = 1.0
) -> Callable[[Values, TeacherTarget], Float[Array, ""]]:
  """Returns a loss of an answer and of one tick of the targets of `shown`.

  Args:
    loss: `(answer, target) -> scalar`.
    agreement: `(answer, teacher's answer) -> scalar`, a distance.
    weight: Of the agreement.
  """

  def total(answer: Values, targets: TeacherTarget) -> Float[Array, ""]:
    target, teacher_answer = targets
    return loss(answer, target) + weight * agreement(answer, teacher_answer)

  return total


def activations(answer: Values, teacher_answer: Values) -> Float[Array, ""]:
  """Returns the distance of registers from the teacher's: mean squares over their variance.

  Args:
    answer: Of a pipeline that `tells_all`, at one tick.
    teacher_answer: The teacher's. Registers that are not in the answer, and arrays that are not real, do not
      count.
  """
  pairs = zip(
    jax.tree.leaves(answer), jax.tree.leaves({n: teacher_answer[n] for n in answer}), strict=True
  )
  real = [(mine, its) for mine, its in pairs if jnp.issubdtype(its.dtype, jnp.floating)]
  apart = [jnp.mean(jnp.square(mine - its)) / (jnp.var(its) + 1e-6) for mine, its in real]
  return jnp.mean(jnp.stack(apart))
