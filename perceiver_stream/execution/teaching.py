"""Learning of one stage in a tick: its activations, incoming gradients, outgoing gradients."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.execution.partition import Params, Partition, Stage
from perceiver_stream.models.stages import Values

Loss = Callable[[Values, PyTree], Float[Array, ""]]
FloatArrays = dict[
  Any, list[Any]
]  # by register, its float arrays or their shapes: the parts with gradients


def pull(
  stage: Stage, params: Params, state: PyTree, inputs: Values
) -> tuple[Values, PyTree, Callable[[FloatArrays], tuple[Params, FloatArrays]]]:
  """Returns the outputs of a stage, its next state, and its pull-back at these activations.

  The pull-back takes the gradient of the stage's outputs and returns those of its parameters and
  of its inputs, except observed ones.
  """

  def forward(params: Params, read: FloatArrays) -> tuple[FloatArrays, tuple[Values, PyTree]]:
    written, after = stage.apply(params, state, refilled(inputs, read))
    return float_arrays(written, stage.observed), (written, after)

  read = float_arrays(inputs, stage.observed)
  _, back, (written, after) = jax.vjp(forward, params, read, has_aux=True)
  names = float_arrays(written, stage.observed)
  return written, after, lambda gradient: back({name: gradient[name] for name in names})


class StageGradients(NamedTuple):
  """The results of a stage after a tick in which it learns.

  Attributes:
    written: Registers that it writes.
    states: Of its layers.
    found: Gradients of its parameters.
    given: Gradients of its inputs.
    loss: Of the answer, if it computes one.
  """

  written: Values
  states: PyTree
  found: Params
  given: FloatArrays
  loss: Float[Array, ""]


def differentiate_stage(
  stage: Stage,
  params: Params,
  before: tuple[Values, PyTree],
  inputs: Values,
  judge: Callable[[Values], tuple[Array, FloatArrays]],
  fires: Bool[Array, ""],
) -> StageGradients:
  """Returns a stage after a tick; unchanged, with zero gradients, if it does not fire.

  Args:
    stage: The stage.
    params: Its parameters.
    before: Its previous outputs and states.
    inputs: Registers that it reads.
    judge: Function of its outputs that returns a loss and the gradient.
    fires: True if it fires; see `fires_at`.
  """

  def learn() -> StageGradients:
    written, after, back = pull(stage, params, before[1], inputs)
    loss, gradient = judge(written)
    return StageGradients(written, after, *back(gradient), loss)

  def hold() -> StageGradients:
    nothing = (params, float_arrays(inputs, stage.observed))
    found, given = jax.tree.map(jnp.zeros_like, nothing)
    return StageGradients(*before, found, given, jnp.float32(0))

  return jax.lax.cond(fires, learn, hold)


def judge_of(
  partition: Partition, i: int, loss: Loss, target: PyTree, back: FloatArrays
) -> Callable[[Values], tuple[Array, FloatArrays]]:
  """Returns the objective of stage i: the loss for the last, incoming gradients for the others."""
  if i < len(partition.stages) - 1:
    return lambda written: (jnp.float32(0), back)
  return lambda written: graded(loss, {n: written[n] for n in partition.staged.outputs}, target)


def float_arrays(values: Mapping[Any, PyTree], but: Collection[str] = ()) -> FloatArrays:
  """Returns the float arrays of every register, or their shapes, with exceptions."""
  kept = {name: value for name, value in values.items() if name not in but}
  return {n: [x for x in jax.tree.leaves(v) if _is_float(x)] for n, v in kept.items()}


def refilled(values: Mapping[str, PyTree], arrays: FloatArrays) -> Values:
  """Returns `values` with other float arrays, in the form of `float_arrays`."""

  def one(value: PyTree, new: Sequence[Array]) -> PyTree:
    left = iter(new)
    return jax.tree.map(lambda x: next(left) if _is_float(x) else x, value)

  return {n: one(value, arrays[n]) if n in arrays else value for n, value in values.items()}


def _is_float(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jnp.floating)


def graded(loss: Loss, answer: Values, target: PyTree) -> tuple[Array, FloatArrays]:
  """Returns the loss of an answer and its gradient."""
  return jax.value_and_grad(lambda arrays: loss(refilled(answer, arrays), target))(
    float_arrays(answer)
  )


def waiting(
  clock: int, fires: Bool[Array, ""], before: FloatArrays, arrived: FloatArrays
) -> FloatArrays:
  """Returns the gradient that waits for a stage after a tick.

  Gradients that arrive while the stage holds are summed until it fires: its output was used as often.

  Args:
    clock: Of the stage.
    fires: True if it fired and thus used the waiting gradients.
    before: Gradients that waited.
    arrived: Gradients from its readers in this tick; zeros from those that held.
  """
  if clock == 1:
    return arrived
  return jax.tree.map(lambda old, new: jnp.where(fires, new, old + new), before, arrived)


def arriving(partition: Partition, pulled: Sequence[FloatArrays]) -> tuple[FloatArrays, ...]:
  """Returns the gradient of each stage's outputs: the sum over its readers, deepest first.

  The last stage's answer has readers outside; its gradient is not among them.
  """
  sums: list[FloatArrays] = [{} for _ in partition.stages]
  for i in range(len(partition.stages) - 1, 0, -1):
    for name, new in pulled[i].items():
      source = partition.stages[i].reads[name]
      assert source is not None
      own = sums[source]
      own[name] = [a + b for a, b in zip(own[name], new, strict=True)] if name in own else new
  return tuple(sums)
