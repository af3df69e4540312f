"""Future prediction by a model whose stages run in parallel: `config.execution` other than sequential.

The output of a pipeline of D stages at tick t depends on frame t - (D - 1), and its target is tick
t + d, as without a pipeline: the model learns to compensate its own delay. `pipelined` takes the exact
gradient of a window, back through the ticks; `sideways` and `skip_sideways` take pseudo-gradients that
flow through the pipeline while it runs, summed over the window. Registers, with the gradients in them,
are state: they are carried from window to window and kept in checkpoints.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream import zoo
from perceiver_stream.execution import Pipeline, gradients, partition
from perceiver_stream.modalities import Memory
from perceiver_stream.models.base import Model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.recurrent import StreamNetwork
from perceiver_stream.models.stages import Staged, Values
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.config import (
  PIPELINED,
  SEQUENTIAL,
  SIDEWAYS,
  SKIP_SIDEWAYS,
  ExperimentConfig,
)
from perceiver_stream.training.objectives import FuturePrediction, Objective, ObjectiveConfig
from perceiver_stream.training.objectives.base import Aux, Score, flag
from perceiver_stream.training.objectives.future_prediction import judge_flow
from perceiver_stream.types import IS_FIRST, Observation, valid_key


class State(NamedTuple):
  """The state from window to window.

  Attributes:
    flowing: The registers, and the gradients in transit.
    memory: The last observation of each modality, for the baseline.
    since: Ticks since the recording of each row began; -1 before the first.
  """

  flowing: PyTree
  memory: dict[str, Memory]
  since: Int[Array, " B"]


class Target(NamedTuple):
  """Targets of a tick's predictions of one modality, by displacement.

  Attributes:
    target: In the modality's target space.
    copy: The prediction of copying.
    weight: Of each row in the loss of the window; 0 where the pair does not count.
    valid: True if the pair counts.
  """

  target: Float[Array, "..."]
  copy: Float[Array, "..."]
  weight: Float[Array, "*T K B"]
  valid: Bool[Array, "*T K B"]


class PipelinedPrediction(FuturePrediction):
  """`FuturePrediction` by a pipeline; the registers are part of its state."""

  def __init__(
    self, model: Model, config: ObjectiveConfig, staged: Staged, mode: str, num_stages: int = 0
  ):
    """Partitions the model.

    Args:
      model: The model.
      config: Of the objective.
      staged: The model as layers.
      mode: One of `config.EXECUTIONS`, except `sequential`.
      num_stages: See `execution.partition`.

    Raises:
      ValueError: The model cannot be partitioned in this way, or has no shortcuts.
    """
    super().__init__(model, config)
    self.partition = partition(staged, num_stages, fresh=mode != SIDEWAYS)
    self.staged = staged
    if mode == SKIP_SIDEWAYS and self.partition.longest_link < 2:
      raise ValueError(
        f"execution=skip_sideways: no shortcut of {staged.name} goes past a stage when it is cut "
        f"into {len(self.partition.stages)}; use more stages, a model with shortcuts, or sideways."
      )
    self.pipeline = Pipeline(self.partition)
    self.rule = (
      None if mode == PIPELINED else gradients("sideways", self.partition, self._tick_loss)
    )
    self._remember = hk.without_apply_rng(hk.transform(self._remembered)).apply

  def loss(
    self, params: PyTree, state: State, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean loss of one window, with its other results; its derivative is exact."""
    del rng
    targets, memory, since = self._targets(state, window)

    def tick(registers: PyTree, now: tuple) -> tuple[PyTree, tuple[Array, Values]]:
      answer, registers = self.pipeline.step(params, registers, now[0])
      return registers, (self._tick_loss(answer, now[1]), answer)

    start = jax.lax.stop_gradient(state.flowing)
    flowing, _, (losses, answers) = self._over(tick, start, (self._frames(window), targets))
    after = jax.lax.stop_gradient(State(flowing, memory, since))
    return jnp.sum(losses), self._aux(after, answers, targets, window)

  def loss_and_grad(
    self, params: PyTree, state: State, window: Observation, rng: Array | None = None
  ) -> tuple[tuple[Float[Array, ""], Aux], PyTree]:
    """Returns the results of `loss`, and its gradient or the sum of the ticks' pseudo-gradients."""
    rule = self.rule
    if rule is None:
      return super().loss_and_grad(params, state, window, rng)
    targets, memory, since = self._targets(state, window)
    nothing = jax.tree.map(jnp.zeros_like, params)

    def tick(flowing: PyTree, now: tuple) -> tuple[PyTree, tuple[Array, Values]]:
      outputs, after = rule.step(params, flowing[0], *now)
      return (after, jax.tree.map(jnp.add, flowing[1], outputs.gradients)), (
        outputs.loss,
        outputs.answer,
      )

    observed = (self._frames(window), targets)
    (flowing, _), (_, found), outputs = self._over(tick, (state.flowing, nothing), observed)
    losses, answers = outputs
    aux = self._aux(State(flowing, memory, since), answers, targets, window)
    return (jnp.sum(losses), aux), found

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> State:
    """Returns the state before the first window."""
    del rng
    flows = self.pipeline if self.rule is None else self.rule
    memory = {n: m.initial_memory(batch_size) for n, m in self.model.modalities.items()}
    since = jnp.full(batch_size, -1, jnp.int32)
    return State(flows.initial(params, batch_size), memory, since)

  def _remembered(self, memory: dict[str, Memory], window: Observation) -> Remembered:
    """Returns the memory of the inputs after every tick, reset where the model resets its own."""
    network = self.model.network()
    assert isinstance(network, StreamNetwork)  # as all that have stages
    return network.remember(memory, window)

  def _over(
    self, tick: Callable[[PyTree, Any], tuple[PyTree, Any]], first: PyTree, ticks: PyTree
  ) -> tuple[PyTree, PyTree, Any]:
    """Returns the state at the start of the next window, the state at the end, and the ticks' outputs."""
    num = self.config.window
    middle, outputs = jax.lax.scan(tick, first, jax.tree.map(lambda x: x[:num], ticks))
    last, more = jax.lax.scan(tick, middle, jax.tree.map(lambda x: x[num:], ticks))
    return middle, last, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), outputs, more)

  def _frames(self, window: Observation) -> Values:
    """Returns the inputs of every tick; modalities missing in the window are not valid."""
    leading = next(iter(window.values())).shape[:2]
    frames = {}
    for name in self.model.modalities:
      shape = self.staged.inputs[name]
      blank = jnp.zeros((*leading, *shape.shape[1:]), shape.dtype)
      frames[name] = jnp.asarray(window.get(name, blank))
      valid = jnp.asarray(window.get(valid_key(name), jnp.ones(leading, bool)), bool)
      frames[valid_key(name)] = valid & (name in window)
    frames[IS_FIRST] = jnp.asarray(window.get(IS_FIRST, jnp.zeros(leading, bool)), bool)
    return frames

  def _targets(
    self, state: State, window: Observation
  ) -> tuple[dict[str, Target], dict[str, Memory], Int[Array, " B"]]:
    """Returns the targets of every tick, and memory and `since` for the next window."""
    kept = self._remember({}, state.memory, window)
    since = ticks_since_reset(state.since, kept.is_first)
    known = [name for name in self.outputs if name in window]
    targets = {name: self._target(name, kept, since, window) for name in known}
    at = self.config.window - 1
    return targets, jax.tree.map(lambda x: x[at], kept.memory), since[at]

  def _target(
    self, name: str, kept: Remembered, since: Int[Array, "T B"], window: Observation
  ) -> Target:
    modality, memory = self.outputs[name], kept.memory[name]
    total, rows = since.shape
    by_tick = lambda f, x: jax.vmap(f)(x)  # noqa: E731
    truth = by_tick(lambda x: modality.target(modality.preprocess(x)), window[name])
    recording = jnp.cumsum(kept.is_first.astype(jnp.int32), axis=0)
    found = []
    for d in self.displacements:
      later = functools.partial(_later, displacement=d)
      ticks = jnp.arange(total)
      used = (ticks >= total - self.config.window - d) & (ticks < total - d)
      valid = jax.lax.broadcast_in_dim(used, (total, rows), (0,))
      valid &= later(kept.valid[name]) & memory.seen & (since >= self.partition.delay)
      valid &= later(recording) == recording
      count = jnp.maximum(jnp.sum(valid.astype(jnp.float32)), 1)
      share = self.weights[d] * modality.config.loss_weight
      share = share / (sum(self.weights.values()) * max(1, len(self.outputs)))
      copy = by_tick(lambda m, d=d: modality.copy(modality.newest(m, d)), memory)
      # Missing observations may be NaN, which must not reach a gradient.
      target = later(truth)
      usable = jax.lax.broadcast_in_dim(valid, target.shape, (0, 1))
      target = jnp.where(usable, target, jnp.zeros_like(target))
      found.append(Target(target, copy, share * valid.astype(jnp.float32) / count, valid))
    return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *found)

  def _tick_loss(self, answer: Values, targets: dict[str, Target]) -> Float[Array, ""]:
    """Returns the contribution of one tick to the loss of its window."""
    total = jnp.float32(0)
    for name, one in targets.items():
      modality = self.outputs[name]
      predicted = jnp.moveaxis(answer["predictions"][name], 1, 0)  # [K, B, ...]
      losses = jax.vmap(modality.loss)(predicted, one.target)
      if self.config.relative:
        base = jax.lax.stop_gradient(jax.vmap(modality.loss)(one.copy, one.target))
        floor = self.config.relative_floor
        losses = jnp.log(losses + floor) - jnp.log(base + floor)
      total = total + jnp.sum(jnp.where(one.valid, losses * one.weight, 0.0))
    return total

  def _aux(
    self, after: State, answers: Values, targets: dict[str, Target], window: Observation
  ) -> Aux:
    """Returns scores and images of the pairs whose targets are the window's last ticks."""
    scores, shown, num = {}, {}, self.config.window
    answers, total = jax.lax.stop_gradient(answers["predictions"]), self.num_ticks
    for k, d in enumerate(self.displacements):
      source = slice(total - num - d, total - d)
      for name, value in answers.items():
        shown[str(ScoreKey(name, d))] = value[source, :, k]
      for name, every in targets.items():
        metric = jax.vmap(self.outputs[name].metric)
        one = jax.tree.map(lambda x: x[source, k], every)  # noqa: B023
        key = str(ScoreKey(name, d))
        error = metric(shown[key], one.target)
        scores[key] = Score(error, {"copy": metric(one.copy, one.target)}, one.valid)
        if name == "pixels" and d in self.judged and "pixels_flow" in answers:
          scores |= self._flow_score(d, shown, one.valid, window)
    return Aux(after, scores, shown)

  def _flow_score(
    self,
    displacement: int,
    shown: dict[str, Array],
    valid: Bool[Array, "K B"],
    window: Observation,
  ) -> dict[str, Score]:
    if "flow_backward" not in window:
      return {}
    key, num = str(ScoreKey("pixels_flow", displacement)), self.config.window
    judged = valid & flag(window, "flow_backward")[-num:]
    return {key: judge_flow(shown[key], window["flow_backward"][-num:], judged)}


def pipelined(objective: Objective, config: ExperimentConfig) -> Objective:
  """Returns the objective for `config.execution`; the same object if that is sequential.

  Raises:
    ValueError: The objective or its model cannot be pipelined.
  """
  if config.execution == SEQUENTIAL:
    return objective
  if not isinstance(objective, FuturePrediction):
    raise ValueError(
      f"execution={config.execution}: {type(objective).__name__} has no pipelined form; set "
      f"execution=sequential, or objective to that of future_prediction."
    )
  staged = zoo.staged(objective.model.config)
  return PipelinedPrediction(
    objective.model, objective.config, staged, config.execution, config.num_stages
  )


def ticks_since_reset(before: Int[Array, " B"], is_first: Bool[Array, "T B"]) -> Int[Array, "T B"]:
  """Returns ticks since each row's recording began: 0 at its first tick."""

  def tick(since: Array, first: Array) -> tuple[Array, Array]:
    since = jnp.where(first, 0, since + 1)
    return since, since

  return jax.lax.scan(tick, before, is_first)[1]


def _later(x: Array, displacement: int) -> Array:
  """Returns values shifted to earlier ticks; zeros where they are not in the window."""
  return jnp.concatenate([x[displacement:], jnp.zeros_like(x[:displacement])])
