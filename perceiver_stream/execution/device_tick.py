"""The work of one pipeline device in a tick; see `devices`."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from perceiver_stream.execution.partition import Params, blank, rows_of
from perceiver_stream.execution.pipeline import Pipeline, fires_at, run_stage
from perceiver_stream.execution.teaching import (
  FloatArrays,
  Loss,
  StageGradients,
  differentiate_stage,
  float_arrays,
  judge_of,
  waiting,
)
from perceiver_stream.models.stages import Values

Entry = tuple[int, str]  # a register: the stage that wrote it, and its name
Inbox = dict[Entry, PyTree]


class Own(NamedTuple):
  """The state that a device carries for its own stages.

  Attributes:
    written: Their outputs, by stage.
    states: Of their layers, by stage.
    tick: Ticks so far.
  """

  written: dict[int, Values]
  states: dict[int, PyTree]
  tick: Int[Array, ""]


class Done(NamedTuple):
  """The results of a device after its stages fired; only the last has loss and answer.

  Attributes:
    own: After the tick.
    given: Gradients of its stages' inputs, deepest stage first.
    found: Gradients of its parameters, by stage.
    loss: Of the answer.
    answer: The model's outputs.
  """

  own: Own
  given: dict[Entry, list[list[Array]]]
  found: dict[int, Params]
  loss: Array
  answer: Values


class Device:
  """One position in the row; all methods are pure."""

  def __init__(
    self, pipeline: Pipeline, owner: Sequence[int], links: Sequence[Sequence[Entry]], place: int
  ):
    """Takes its stages, given by `owner`, and the registers it forwards over `links`."""
    self.partition, self.clocks = pipeline.partition, pipeline.clocks
    self.stages = [i for i, device in enumerate(owner) if device == place]
    self.from_left = links[place - 1] if place else ()
    self.to_right = links[place] if place < len(links) else ()
    self.last = len(self.partition.stages) - 1
    self.is_last = self.last in self.stages
    self.reads = [
      ((source, name), i)
      for i in reversed(self.stages)
      for name, source in self.partition.stages[i].reads.items()
      if source is not None
    ]
    self.observed = self.partition.stages[0].observed
    self.reach = max((place - owner[source] for (source, _), _ in self.reads), default=0)

  # --- shapes: zeros of all state and messages ----------------------------------------------------

  def blank_own(self, rows: int) -> Own:
    """Returns its stages before the first tick, with their states; see `initial_own`."""
    params = jax.eval_shape(self.partition.init, jax.random.key(0))
    return jax.eval_shape(lambda params: self.initial_own(params, rows), params)

  def initial_own(self, params: Params, rows: int) -> Own:
    """Returns its stages before the first tick; `params` are those of the whole model."""
    stages, shapes = self.partition.stages, self.partition.registers
    written = {i: {n: blank(shapes[n], rows) for n in stages[i].writes} for i in self.stages}
    states = {i: stages[i].initial_states(params, rows) for i in self.stages}
    return Own(written, states, jnp.array(0, jnp.int32))

  def blank_right(self, rows: int) -> Inbox:
    """Returns a message to the next device."""
    return {entry: blank(self.partition.registers[entry[1]], rows) for entry in self.to_right}

  def blank_given(self, rows: int) -> dict[Entry, list[list[Any]]]:
    """Returns the gradients of its stages' inputs."""
    given: dict[Entry, list[list[Any]]] = {}
    for entry, _ in self.reads:
      if entry[1] not in self.observed:
        zeros = float_arrays({entry: blank(self.partition.registers[entry[1]], rows)})[entry]
        given.setdefault(entry, []).append(zeros)
    return given

  def blank_left(self, rows: int) -> FloatArrays:
    """Returns the gradients that the next device sends back."""
    message = self.blank_right(rows)
    return float_arrays({e: x for e, x in message.items() if e[1] not in self.observed})

  def blank_back(self, rows: int) -> dict[int, FloatArrays]:
    """Returns the gradients of its stages' outputs, before any has arrived."""
    written = self.blank_own(rows).written
    return {i: float_arrays(written[i], self.observed) for i in self.stages if i != self.last}

  # --- a tick -------------------------------------------------------------------------------------

  def fire(
    self, params: dict[int, Params], own: Own, inbox: Inbox, frame: Values
  ) -> tuple[Own, Values]:
    """Returns its stages' outputs, and the answer if it is the last device's, otherwise zeros."""
    written, states = {}, {}
    for i in self.stages:
      before = (own.written[i], own.states[i])
      inputs = self._reads(i, own, inbox, frame)
      stage, fires = self.partition.stages[i], fires_at(self.clocks, i, own.tick)
      written[i], states[i] = run_stage(stage, params[i], before, inputs, fires)
    return Own(written, states, own.tick + 1), self._answer(written, frame)

  def learn(
    self,
    params: dict[int, Params],
    own: Own,
    inbox: Inbox,
    back: dict[int, FloatArrays],
    frame: Values,
    target: PyTree,
    loss: Loss,
  ) -> Done:
    """Returns the part of a tick of Sideways that needs no other device."""
    taught: dict[int, StageGradients] = {}
    given: dict[Entry, list[list[Any]]] = {}
    for i in reversed(self.stages):
      stage, before = self.partition.stages[i], (own.written[i], own.states[i])
      inputs = self._reads(i, own, inbox, frame)
      judge = judge_of(self.partition, i, loss, target, back.get(i, {}))
      fires = fires_at(self.clocks, i, own.tick)
      taught[i] = differentiate_stage(stage, params[i], before, inputs, judge, fires)
      for name, gradient in taught[i].given.items():
        given.setdefault((stage.reads[name], name), []).append(gradient)  # type: ignore[arg-type]
    written = {i: t.written for i, t in taught.items()}
    after = Own(written, {i: t.states for i, t in taught.items()}, own.tick + 1)
    found = {i: t.found for i, t in taught.items()}
    value = taught[self.last].loss if self.is_last else jnp.float32(0)
    return Done(after, given, found, value, self._answer(written, frame))

  def rightward(self, own: Own, inbox: Inbox) -> Inbox:
    """Returns the registers that the next device needs and that are available here."""
    return {
      (i, name): own.written[i][name] if i in self.stages else inbox[i, name]
      for i, name in self.to_right
    }

  def leftward(
    self, given: dict[Entry, list[list[Array]]], received: dict[Entry, list[Array]]
  ) -> dict[Entry, list[Array]]:
    """Returns the gradients of inputs from the left: those received from the right, and its own."""
    sent = [entry for entry in self.from_left if entry[1] not in self.observed]
    return {entry: total(given.get(entry, []), received.get(entry)) for entry in sent}

  def arrived(
    self,
    given: dict[Entry, list[list[Array]]],
    received: dict[Entry, list[Array]],
    back: dict[int, FloatArrays],
    tick: Int[Array, ""],
  ) -> dict[int, FloatArrays]:
    """Returns the gradients of its own stages' outputs that wait for them after a tick.

    Args:
      given: By its own stages.
      received: Gradients received from the right.
      back: Gradients that waited before.
      tick: The tick's number.
    """
    new: dict[int, FloatArrays] = {i: {} for i in back}
    for i, name in {*given, *received}:
      if i in new:
        new[i][name] = total(given.get((i, name), []), received.get((i, name)))
    fired = {i: fires_at(self.clocks, i, tick) for i in back}
    return {i: waiting(self.clocks[i], fired[i], back[i], new[i]) for i in back}

  def _reads(self, i: int, own: Own, inbox: Inbox, frame: Values) -> Values:
    def one(name: str, source: int | None) -> PyTree:
      if source is None:
        return frame[name]
      return own.written[source][name] if source in self.stages else inbox[source, name]

    return {name: one(name, source) for name, source in self.partition.stages[i].reads.items()}

  def _answer(self, written: dict[int, Values], frame: Values) -> Values:
    if self.is_last:
      return {name: written[self.last][name] for name in self.partition.staged.outputs}
    shapes = {name: self.partition.registers[name] for name in self.partition.staged.outputs}
    return blank(shapes, rows_of(frame))


def total(given: Sequence[list[Array]], received: list[Array] | None) -> list[Array]:
  """Returns the sum; gradients received from deeper stages come first."""
  parts = [*([] if received is None else [received]), *given]
  return [functools.reduce(jnp.add, arrays) for arrays in zip(*parts, strict=True)]
