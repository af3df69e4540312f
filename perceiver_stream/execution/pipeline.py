"""A partitioned model as a pipeline, on one device: all stages run at every tick.

Each reads the outputs of the others from one tick ago, so a tick takes as long as its slowest stage,
and the answer at a tick belongs to the frame D - 1 ticks before. One stage is the ordinary network.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from perceiver_stream.execution.partition import Params, Partition, Stage, blank
from perceiver_stream.models.stages import Values


class Registers(NamedTuple):
  """The state of a pipeline from tick to tick; fixed shapes, rows first.

  Attributes:
    written: The outputs of every stage.
    states: Of the layers of every stage.
    tick: Ticks so far, `[]`.
  """

  written: tuple[Values, ...]
  states: tuple[PyTree, ...]
  tick: Int[Array, ""]


class Pipeline:
  """A partitioned model over time; `step` and `unroll` are pure and can be jitted."""

  def __init__(self, partition: Partition, clocks: Sequence[int] = (), tells_all: bool = False):
    """Makes the pipeline of a partition.

    Args:
      partition: The model in stages.
      clocks: Ticks from one firing of each stage to its next, between which it holds its outputs;
        none means that all fire at every tick.
      tells_all: If True, the answer at a tick has the outputs of all stages, each register from the
        stage that computed it, instead of the model's answer alone.

    Raises:
      ValueError: There is not one clock per stage, or one is below 1.
    """
    self.partition = partition
    self.clocks = tuple(clocks) or (1,) * len(partition.stages)
    if len(self.clocks) != len(partition.stages) or min(self.clocks) < 1:
      raise ValueError(
        f"Pipeline: clocks {self.clocks} for {len(partition.stages)} stages of {partition.staged.name}; give "
        f"each stage one, of 1 tick or more."
      )
    self.tells_all = tells_all

  @property
  def delay(self) -> int:
    """Ticks from a frame to its answer."""
    return self.partition.delay

  def initial(self, params: Params, rows: int = 1) -> Registers:
    """Returns the registers before the first tick: the pipeline is empty, which is zeros."""
    stages, shapes = self.partition.stages, self.partition.registers
    written = tuple({name: blank(shapes[name], rows) for name in s.writes} for s in stages)
    states = tuple(s.initial_states(params, rows) for s in stages)
    return Registers(written, states, jnp.array(0, jnp.int32))

  def step(
    self, params: Params, registers: Registers, frame: Mapping[str, PyTree]
  ) -> tuple[Values, Registers]:
    """Returns the model's answer at this tick and the registers after it.

    Args:
      params: Of the whole model.
      registers: Before the tick.
      frame: Inputs of the tick, by register; arrays `[B, ...]`.

    Raises:
      ValueError: The frame differs from the model's inputs.
    """
    check_frame(self.partition, frame)
    written, states = [], []
    for i, own in enumerate(self.partition.split(params)):
      inputs = incoming(self.partition, i, registers.written, frame)
      before = (registers.written[i], registers.states[i])
      fires = fires_at(self.clocks, i, registers.tick)
      after = run_stage(self.partition.stages[i], own, before, inputs, fires)
      written.append(after[0])
      states.append(after[1])
    return self._answer(written), Registers(tuple(written), tuple(states), registers.tick + 1)

  def _answer(self, written: Sequence[Values]) -> Values:
    """Returns the answer of a tick from each stage's outputs."""
    staged = self.partition.staged
    if not self.tells_all:
      return {name: written[-1][name] for name in staged.outputs}
    answer: Values = {}
    for values in reversed(written):  # the first stage with it computed it, the others forward it
      answer |= values
    return {name: value for name, value in answer.items() if name not in staged.inputs}

  def unroll(
    self, params: Params, registers: Registers, frames: Mapping[str, PyTree]
  ) -> tuple[Values, Registers]:
    """Returns the answers at T ticks, `[T, B, ...]`, and the registers after the last."""

    def tick(registers: Registers, frame: Values) -> tuple[Registers, Values]:
      answer, registers = self.step(params, registers, frame)
      return registers, answer

    last, answers = jax.lax.scan(tick, registers, dict(frames))
    return answers, last


def run_stage(
  stage: Stage,
  params: Params,
  before: tuple[Values, PyTree],
  inputs: Values,
  fires: Bool[Array, ""],
) -> tuple[Values, PyTree]:
  """Returns a stage's outputs and states: new if it fires, else unchanged.

  A stage is a program of its own for the compiler, so that its numbers are the same bits on one device
  and on its own.
  """
  fire = lambda: stage.apply(params, before[1], inputs)  # noqa: E731
  return jax.lax.cond(fires, fire, lambda: before)


def incoming(
  partition: Partition, i: int, written: Sequence[Values], frame: Mapping[str, PyTree]
) -> Values:
  """Returns the registers that stage i reads at a tick."""
  reads = partition.stages[i].reads
  return {n: frame[n] if j is None else written[j][n] for n, j in reads.items()}


def fires_at(clocks: Sequence[int], i: int, tick: Int[Array, ""]) -> Bool[Array, ""]:
  """Returns True if stage i fires: a frame has reached it, and its clock has ticked."""
  fires, clock = tick >= i, clocks[i]
  return fires if clock == 1 else fires & (tick % clock == i % clock)


def check_frame(partition: Partition, frame: Mapping[str, PyTree]) -> None:
  """Raises ValueError if a tick's arrays differ from the model's inputs."""
  for name in partition.stages[0].reads:
    expected = [x.shape[1:] for x in jax.tree.leaves(partition.staged.inputs[name])]
    found = [x.shape[1:] for x in jax.tree.leaves(frame.get(name, ()))]
    if expected != found:
      raise ValueError(
        f"Pipeline: {partition.staged.name} reads '{name}' of shapes {expected} a row, but the tick has "
        f"{found or sorted(frame)}; resize it, or cut a model of this size."
      )
