"""Online learning of a model that watches a stream: the training step of `training`, in a thread.

A window has the ticks and the loss of `training.train`. It starts from the state that the watching
model had before the window's first tick, so windows may be left out: those that come while one is
computed and another waits, and where images are dropped more of them, by the rules of
`training.pace`. Ticks never wait for learning.
"""

import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from perceiver_stream.training import step
from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.training.mesh import make_mesh, place
from perceiver_stream.training.objectives import Objective
from perceiver_stream.training.objectives.future_prediction import FuturePrediction
from perceiver_stream.training.objectives.online_prediction import OnlinePrediction
from perceiver_stream.training.optimizers import make_optimizer
from perceiver_stream.training.pace import Pace
from perceiver_stream.types import IS_FIRST

logger = logging.getLogger(__name__)

PENDING = 2  # windows: one is computed, one waits, so that a slow one costs none


class ScaledState(NamedTuple):
  """State of `scaled`.

  Attributes:
    factor: By which updates are multiplied.
    inner: State of the optimiser.
  """

  factor: Float[Array, ""]
  inner: PyTree


def scaled(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Returns an optimiser whose updates are multiplied by a factor in its state, at first 1.

  The learning rate is the last factor of an update, so it can be changed without a new program.
  """

  def init(params: Any) -> ScaledState:
    return ScaledState(jnp.array(1.0, jnp.float32), optimizer.init(params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaledState]:
    updates, inner = optimizer.update(updates, state.inner, params)
    scale = lambda u: u * state.factor.astype(u.dtype)  # noqa: E731
    return jax.tree.map(scale, updates), ScaledState(state.factor, inner)

  return optax.GradientTransformation(init, update)


class Progress(NamedTuple):
  """Counts and results of the newest update.

  Attributes:
    updates: Windows learned.
    loss: Of the newest window; NaN before the first.
    grad_norm: Likewise.
    skipped: Windows without an update, because a value was not finite.
  """

  updates: int = 0
  loss: float = float("nan")
  grad_norm: float = float("nan")
  skipped: int = 0


class OnlineLearner:
  """Parameters that learn from the ticks of one stream.

  Attributes:
    config: The experiment.
    is_on: If False, ticks are not learned from.
    progress: Of learning.
    pace: Decides which windows are learned from.
    problem: Why learning was turned off by itself; "" if it was not, or was turned on again.
    is_lost: True after a step that failed: it had given its memory away, and the parameters with it.
  """

  def __init__(
    self,
    config: ExperimentConfig,
    objective: Objective,
    observation: Mapping[str, np.ndarray],
    params: PyTree,
    *,
    waits: bool = False,
  ):
    """Starts with given parameters; nothing is compiled before the first window.

    Args:
      config: Of the experiment; one row.
      objective: The objective, with its model.
      observation: One tick `[1, ...]` with all names that ticks will have but `is_first`.
      params: To start from; they are copied.
      waits: Whether `offer` computes a window at once, so that none is left out.

    Raises:
      ValueError: The objective keeps a state of its own, which watching does not compute.
    """
    if not isinstance(objective, FuturePrediction):
      raise ValueError(
        f"live: {type(objective).__name__} keeps a state of its own; use future_prediction or "
        f"online_prediction, or watch only: --no_learning."
      )
    self.config, self.is_on, self.progress, self.problem = config, True, Progress(), ""
    self.is_lost, self.pace = False, Pace()
    self._objective, self._waits = objective, waits
    self._mesh = make_mesh(config.mesh, 1)
    optimizer = scaled(make_optimizer(config.optimizer))
    self._state, sharding = step.placed_train_state(
      self._mesh, objective, optimizer, observation, config.seed, copied(params)
    )
    self._sharding = sharding
    self._step = step.make_train_step(objective.loss_and_grad, optimizer, sharding, 1)
    self._ticks: deque[tuple[Mapping[str, np.ndarray], PyTree]] = deque(maxlen=objective.num_ticks)
    self._new, self._dropped, self._rate = 0, 0, config.optimizer.learning_rate
    self._thread = _one_thread()
    self._pending: deque[Future[tuple[PyTree, step.StepInfo]]] = deque()

  @property
  def learning_rate(self) -> float:
    """Learning rate after the warm-up."""
    return self._rate

  def turn(self, is_on: bool) -> None:
    """Turns learning on or off; raises ValueError if there are no parameters to learn any more."""
    if is_on:
      self._check_kept("learn")
      self.problem = ""
    self.is_on = is_on

  def set_learning_rate(self, rate: float) -> None:
    """Changes the learning rate, from the next window on; raises ValueError."""
    if not 0 < rate <= 1:
      raise ValueError(f"learning rate {rate}; use a number above 0, at most 1.")
    self._rate = rate

  def offer(
    self, tick: Mapping[str, np.ndarray], before: PyTree, dropped: int = 0
  ) -> PyTree | None:
    """Takes a tick, and learns from the newest window if one is complete.

    Args:
      tick: Inputs `[1, ...]`, with `is_first`.
      before: State of the model before the tick.
      dropped: Images that the source has dropped so far.

    Returns:
      New parameters, or None while there are none.
    """
    self._ticks.append((tick, before))
    self._new += 1
    if not self.is_on:
      self.pace.leave_out(dropped - self._dropped)
    self._dropped = dropped
    learned = self._finished()
    window = self._objective.config.window
    if self.is_on and self._new >= window and len(self._ticks) == self._ticks.maxlen:
      self._new = 0
      learns = self.pace.learns(is_busy=len(self._pending) >= PENDING)
      if change := self.pace.after(dropped):
        logger.warning("live: %s", change)
      if not learns:
        return learned
      self._pending.append(self._thread.submit(self._learn, list(self._ticks), self._rate))
      if self._waits:
        self._pending[-1].exception()  # is raised below
        return self._finished()
    return learned

  def restart(self) -> None:
    """Forgets the ticks before, because the state of the model was reset."""
    self._ticks.clear()
    self._new = 0

  def trees(self) -> dict[str, Any]:
    """Returns the content of a checkpoint that `training.train` resumes, by name, as numpy.

    Waits for the windows that are pending; may be called from any thread.

    Raises:
      ValueError: A step has failed, and the parameters were lost.
    """
    return self._thread.submit(self._trees).result()  # between two windows

  def close(self) -> None:
    """Ends the thread, after the windows that are pending; the next window starts another."""
    thread, self._thread = self._thread, _one_thread()
    thread.shutdown()

  def _trees(self) -> dict[str, Any]:
    self._check_kept("save")
    state = jax.device_get(self._state)
    learner = state._replace(params=(), opt_state=state.opt_state.inner)
    return {"params": state.params, "learner": learner}

  def _check_kept(self, what: str) -> None:
    if self.is_lost:
      raise ValueError(
        f"{what}: the parameters were lost in a step that failed; restart the server."
      )

  def _learn(
    self, ticks: list[tuple[Mapping[str, np.ndarray], PyTree]], rate: float
  ) -> tuple[PyTree, step.StepInfo]:
    """Runs the training step on a window, and returns new parameters and its output."""
    self._check_kept("learn")
    names = ticks[0][0]
    window = {name: np.stack([tick[name] for tick, _ in ticks]) for name in names}
    factor = np.float32(rate / self.config.optimizer.learning_rate)
    opt_state = self._state.opt_state
    factor = jax.device_put(factor, opt_state.factor.sharding)
    state = self._state._replace(  # the step writes into its arguments: they are copies
      model_state=jax.device_put(self._start(ticks), self._sharding.model_state),
      opt_state=opt_state._replace(factor=factor),
    )
    window = place(self._mesh, 1, window)
    try:
      self._state, info = self._step(state, window)
      params = jax.device_put(copied(self._state.params), jax.devices()[0])
      info = jax.device_get(info._replace(predictions={}, scores={}))
      return jax.block_until_ready(params), info
    except Exception:
      self.is_lost = True
      raise

  def _start(self, ticks: list[tuple[Mapping[str, np.ndarray], PyTree]]) -> PyTree:
    """Returns a copy of the state before a window, as the objective has it."""
    if not isinstance(self._objective, OnlinePrediction):
      return copied(ticks[0][1])
    states = [before for _, before in ticks[: self._objective.longest + 1]]
    return stacked(states)

  def _finished(self) -> PyTree | None:
    """Returns the parameters after the windows that have been learned since, or None."""
    params = None
    while self._pending and self._pending[0].done():
      newer = self._take(self._pending.popleft())
      params = params if newer is None else newer
    return params

  def _take(self, finished: Future[tuple[PyTree, step.StepInfo]]) -> PyTree | None:
    """Takes in the results of a window, and returns its parameters, or None if it failed."""
    try:
      params, info = finished.result()
    except Exception as error:  # the stream continues without learning
      self.is_on = False
      self.problem = self.problem or f"learning stopped: {type(error).__name__}: {error}"
      return None
    p = self.progress
    if not p.updates:  # the program was compiled meanwhile
      self.pace.begin(self._dropped)
    loss, norm = float(info.loss), float(info.grad_norm)
    self.progress = Progress(p.updates + 1, loss, norm, int(info.skipped))
    if info.bad_run >= self.config.max_bad_windows:
      self.is_on = False
      self.problem = (
        f"learning stopped: {int(info.bad_run)} windows in a row were not finite; lower the learning "
        f"rate."
      )
    return params


def _one_thread() -> ThreadPoolExecutor:
  """Returns an executor of one thread, which starts with its first task."""
  return ThreadPoolExecutor(1, "learning")


@jax.jit
def stacked(trees: list[PyTree]) -> PyTree:
  """Returns a tree of arrays `[B, K, ...]` from K trees of `[B, ...]`."""
  return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *trees)


@jax.jit
def copied(tree: PyTree) -> PyTree:
  """Returns a tree of new arrays."""
  return jax.tree.map(jnp.copy, tree)


def with_start(tick: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns a tick `[1, ...]` with `is_first`, False where it has none."""
  return {IS_FIRST: np.zeros(1, bool), **tick}
