"""Gradient rules of pipelines: the gradients of every stage after a tick, under one interface.

  rule = gradients("sideways", partition, loss)
  state = rule.initial(params, rows)
  output, state = rule.step(params, state, frame, target)     # output.gradients, output.loss

`backprop`: all stages on the same frame, one after the other, forward and backward: exact, and
  blocking.
`sideways`: the loss's gradient travels back through the pipeline one stage a tick. Each stage
  propagates it through its current activations: nothing is stored, and the gradient comes
  from an older frame. If frames do not change it equals `backprop`. With fresh shortcuts it
  is Skip-Sideways.
`buffered`: like `sideways`, but each stage stores its inputs until the gradient of that frame arrives
  (GPipe's exactness at one frame a tick): exact for an older frame; memory grows with depth.
`feedback_alignment`: the gradient of the answer reaches each stage at once through a fixed random
  matrix; no stage sends another a gradient.

With slow `clocks`, `sideways` computes the gradients of a stage when it fires, from the sum of the
gradients that have arrived since it last did; at other ticks they are zero.

Source: our version of Malinowski et al. 2020, 2001.06232 (Sideways), 2021, 2106.08318; Huang et al.
2019, 1811.06965 (GPipe); Nøkland 2016, 1609.01596 (direct feedback alignment). No gradient flows
into the state that a layer carries from tick to tick, under any rule.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.execution.partition import Params, Partition, blank
from perceiver_stream.execution.pipeline import (
  Pipeline,
  Registers,
  check_frame,
  fires_at,
  incoming,
  run_stage,
)
from perceiver_stream.execution.teaching import (
  FloatArrays,
  Loss,
  arriving,
  differentiate_stage,
  float_arrays,
  graded,
  judge_of,
  pull,
  waiting,
)
from perceiver_stream.models.stages import Values


class TickOutput(NamedTuple):
  """The outputs of a tick.

  Attributes:
    gradients: Of all parameters.
    loss: Of the answer of this tick; 0 while the pipeline fills or the last stage holds.
    answer: The model's outputs at this tick.
  """

  gradients: Params
  loss: Float[Array, ""]
  answer: Values


class PipelineState(NamedTuple):
  """Registers of a pipeline and the gradients in transit.

  Attributes:
    registers: Those of the pipeline.
    back: The gradient of each stage's outputs that has arrived and waits for it to fire.
    kept: Each stage's past inputs for `buffered`, newest first; otherwise nothing.
  """

  registers: Registers
  back: tuple[FloatArrays, ...]
  kept: tuple[PyTree, ...]


class Rule(NamedTuple):
  """A gradient rule; pure functions.

  Attributes:
    initial: `(params, rows=1) -> registers`.
    step: `(params, state, frame, target) -> (TickOutput, state)`.
  """

  initial: Callable[..., Any]
  step: Callable[..., tuple[TickOutput, Any]]


def gradients(
  rule: str, partition: Partition, loss: Loss, *, clocks: Sequence[int] = (), seed: int = 0
) -> Rule:
  """Returns a gradient rule for a partitioned model.

  Args:
    rule: One of `RULES`.
    partition: The model in stages.
    loss: `(outputs, target) -> scalar` of one tick.
    clocks: Of the stages, as for `Pipeline`; for `sideways` alone.
    seed: Of the random matrices of `feedback_alignment`.

  Raises:
    ValueError: There is no such rule, or the partition does not support it.
  """
  if rule not in RULES:
    raise ValueError(f"gradients: rule {rule!r} is not one of {sorted(RULES)}.")
  if rule == "buffered" and partition.is_fresh and partition.longest_link > 1:
    raise ValueError(
      f"gradients: 'buffered' waits for the gradient of one frame, but this cut of {partition.staged.name} "
      f"mixes frames through its shortcuts {sorted(partition.staged.shortcuts)}; cut it with fresh=False."
    )
  pipeline = Pipeline(partition, clocks)
  if rule != "sideways" and max(pipeline.clocks) > 1:
    raise ValueError(
      f"gradients: {rule!r} needs all stages at every tick, not clocks {pipeline.clocks}; leave "
      f"them out, or use 'sideways'."
    )
  return RULES[rule](pipeline, loss, seed)


def _backprop(pipeline: Pipeline, loss: Loss, seed: int) -> Rule:
  del seed

  def step(params: Params, registers: Registers, frame: Values, target: PyTree):
    def total(params: Params) -> tuple[Array, tuple[Values, Registers]]:
      answer, after = _at_once(pipeline.partition, params, registers, frame)
      return loss(answer, target), (answer, after)

    (value, (answer, after)), found = jax.value_and_grad(total, has_aux=True)(params)
    return TickOutput(found, value, answer), after

  return Rule(pipeline.initial, step)


def _at_once(
  partition: Partition, params: Params, registers: Registers, frame: Values
) -> tuple[Values, Registers]:
  """Returns the answer to the current frame: the stages one after the other."""
  check_frame(partition, frame)
  written, states = [], []
  for i, (stage, own) in enumerate(zip(partition.stages, partition.split(params), strict=True)):
    inputs = incoming(partition, i, written, frame)
    new, state = stage.apply(own, registers.states[i], inputs)
    written.append(new)
    states.append(state)
  answer = {name: written[-1][name] for name in partition.staged.outputs}
  return answer, Registers(tuple(written), tuple(states), registers.tick + 1)


def _sideways(pipeline: Pipeline, loss: Loss, seed: int, *, is_buffered: bool = False) -> Rule:
  del seed
  partition, clocks = pipeline.partition, pipeline.clocks
  last = len(partition.stages) - 1

  def initial(params: Params, rows: int = 1) -> PipelineState:
    registers = pipeline.initial(params, rows)
    back = tuple(
      jax.tree.map(jnp.zeros_like, float_arrays(written, stage.observed))
      for stage, written in zip(partition.stages[:-1], registers.written[:-1], strict=True)
    )
    kept = [()] * len(partition.stages)
    if is_buffered:
      for i, stage in enumerate(partition.stages):
        inputs = {name: blank(partition.registers[name], rows) for name in stage.reads}
        past = (registers.states[i], inputs)
        kept[i] = jax.tree.map(lambda x: jnp.stack([x] * (2 * (last - i) + 1)), past)  # noqa: B023
    return PipelineState(registers, back, tuple(kept))

  def step(params: Params, flowing: PipelineState, frame: Values, target: PyTree):
    check_frame(partition, frame)
    registers, taught, kept = flowing.registers, [], []
    fired = [fires_at(clocks, i, registers.tick) for i in range(last + 1)]
    for i, (stage, own) in enumerate(zip(partition.stages, partition.split(params), strict=True)):
      inputs = incoming(partition, i, registers.written, frame)
      before = (registers.written[i], registers.states[i])
      judge = judge_of(partition, i, loss, target, flowing.back[i] if i < last else {})
      if not is_buffered:
        taught.append(differentiate_stage(stage, own, before, inputs, judge, fired[i]))
        continue
      kept.append(_pushed(flowing.kept[i], (registers.states[i], inputs)))
      past_states, past = jax.tree.map(lambda x: x[-1], kept[-1])
      learnt = differentiate_stage(stage, own, (before[0], past_states), past, judge, fired[i])
      written, states = run_stage(stage, own, before, inputs, fired[i])
      taught.append(learnt._replace(written=written, states=states))
    after = Registers(
      tuple(t.written for t in taught), tuple(t.states for t in taught), registers.tick + 1
    )
    arrived = arriving(partition, [t.given for t in taught])[:-1]
    back = tuple(map(waiting, clocks, fired, flowing.back, arrived))
    found = {name: g for t in taught for name, g in t.found.items()}
    answer = {name: taught[-1].written[name] for name in partition.staged.outputs}
    return TickOutput(found, taught[-1].loss, answer), PipelineState(
      after, back, tuple(kept) or flowing.kept
    )

  return Rule(initial, step)


def _pushed(kept: PyTree, newest: PyTree) -> PyTree:
  """Returns the past with one more tick, without the oldest."""
  return jax.tree.map(lambda old, new: jnp.concatenate([new[None], old[:-1]]), kept, newest)


def _feedback_alignment(pipeline: Pipeline, loss: Loss, seed: int) -> Rule:
  partition = pipeline.partition

  def step(params: Params, registers: Registers, frame: Values, target: PyTree):
    answer, after = _at_once(partition, params, registers, frame)
    value, error = graded(loss, answer, target)
    found = {}
    for i, (stage, own) in enumerate(zip(partition.stages, partition.split(params), strict=True)):
      inputs = incoming(partition, i, after.written, frame)
      written, _, back = pull(stage, own, registers.states[i], inputs)
      key = jax.random.fold_in(jax.random.key(seed), i)
      fed = (
        error if i == len(partition.stages) - 1 else _projected(key, error, float_arrays(written))
      )
      found |= back(fed)[0]
    return TickOutput(found, value, answer), after

  return Rule(pipeline.initial, step)


def _projected(key: Array, error: FloatArrays, written: FloatArrays) -> FloatArrays:
  """Returns the answer's gradient through a random matrix for every array written.

  The matrix is normal and scaled so that it preserves the norm of the error on average per number.
  """
  rows = jax.tree.leaves(error)[0].shape[0]
  flat = jnp.concatenate([x.reshape(rows, -1) for x in jax.tree.leaves(error)], axis=1)
  leaves, structure = jax.tree.flatten(written)
  fed = []
  for i, x in enumerate(leaves):
    shape = (flat.shape[1], x[0].size)
    matrix = jax.random.normal(jax.random.fold_in(key, i), shape) / jnp.sqrt(float(shape[0]))
    fed.append((flat @ matrix).reshape(x.shape).astype(x.dtype))
  return jax.tree.unflatten(structure, fed)


RULES = {
  "backprop": _backprop,
  "buffered": functools.partial(_sideways, is_buffered=True),
  "feedback_alignment": _feedback_alignment,
  "sideways": _sideways,
}
