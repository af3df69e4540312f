"""Purchases of an agent (`models.a2mt`) and their outcome, beside simpler strategies.

All strategies use the same trained prediction, so that only the choice of what to observe differs:

* `agent`: the more probable actions of its policy;
* `never`, `always`;
* `random`: each modality at each tick at the agent's own mean rate;
* `fixed`: the same schedule for all episodes, the best of those that buy each modality at the ticks at
  which the agent buys it most often, by their numbers, on episodes for choosing;
* `entropy`: everything while the entropy of the prediction is above a threshold, the best of a list on
  those episodes;
* `shuffled`: what the agent bought, in another episode;
* `oracle`: a given table.
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.models.a2mt import Agent, Heads, Rollout, preferred
from perceiver_stream.models.a2mt.objective import label_errors, rewards_of
from perceiver_stream.streams.acquisition import Episode

Schedule = Bool[np.ndarray, "T M"]
Bought = Bool[np.ndarray, "T N M"]
_COUNTS = (0, 1, 2, 4, 8)  # purchases of a modality in a schedule, besides all
_THRESHOLDS = (0.1, 0.3, 0.6, 0.9)  # of the entropy of equal scores


class Episodes(NamedTuple):
  """Episodes as arrays.

  Attributes:
    values: Observations by modality, `[T, N, ...]`.
    valid: True where the stream has each, `[T, N, M]`.
    labels: Class of each, `[N]` int32.
  """

  values: dict[str, np.ndarray]
  valid: Bool[np.ndarray, "T N M"]
  labels: Int[np.ndarray, " N"]


def stacked(found: Sequence[Episode], names: Sequence[str]) -> Episodes:
  """Returns episodes of equal length as arrays, with modalities in the order of `names`."""
  values = {name: np.stack([e.values[name] for e in found], axis=1) for name in names}
  valid = [np.stack([e.valid[name] for e in found], axis=1) for name in names]
  return Episodes(values, np.stack(valid, axis=-1), np.array([e.label for e in found], np.int32))


class Outcome(NamedTuple):
  """Result of a strategy for each episode.

  Attributes:
    returns: Log probability of the label minus the prices paid, `[N]`, nats.
    correct: True where the label has the highest score.
    bought: Modalities acquired at each tick.
    scores: Log probabilities of the classes after the last tick.
  """

  returns: Float[np.ndarray, " N"]
  correct: Bool[np.ndarray, " N"]
  bought: Bought
  scores: Float[np.ndarray, "N K"]


class Strategies:
  """An agent with its parameters, and the strategies to compare it with.

  Args:
    agent: The agent.
    params: Its parameters.
    prices: Price of a tick of each modality, nats.
    seed: Of random purchases.

  Raises:
    ValueError: `prices` are of other modalities.
  """

  def __init__(self, agent: Agent, params: PyTree, prices: Mapping[str, float], *, seed: int = 0):
    self.agent = agent
    self._set(params, prices, seed)
    self._decide = jax.jit(lambda *x: _run(agent, preferred, *x))
    self._play = jax.jit(lambda *x, table: _run(agent, lambda t, key, heads: table[t], *x))
    self._doubt = jax.jit(lambda *x, least: _run(agent, _doubtful(least), *x))

  def changed(self, params: PyTree, prices: Mapping[str, float], *, seed: int = 0) -> "Strategies":
    """Returns the strategies with other parameters and prices, and the same compiled programs."""
    other = copy.copy(self)
    other._set(params, prices, seed)
    return other

  def _set(self, params: PyTree, prices: Mapping[str, float], seed: int) -> None:
    names = self.agent.names
    if set(prices) != set(names):
      raise ValueError(f"Strategies: prices of {sorted(prices)}; the agent has {names}.")
    self.params, self._rng = params, np.random.default_rng(seed)
    self.prices = np.array([prices[name] for name in names], np.float32)

  def policy(self, episodes: Episodes) -> Outcome:
    """Returns the outcome of the agent's own choices."""
    return self._outcome(self._decide, episodes)

  def table(self, episodes: Episodes, bought: Bought) -> Outcome:
    """Returns the outcome of given purchases; those at tick 0 are not made."""
    return self._outcome(self._play, episodes, table=_as_actions(bought))

  def schedule(self, episodes: Episodes, schedule: Schedule) -> Outcome:
    """Returns the outcome of the same purchases in all episodes."""
    return self.table(episodes, np.broadcast_to(schedule[:, None], episodes.valid.shape))

  def entropy(self, episodes: Episodes, least: float) -> Outcome:
    """Returns the outcome of buying everything while the entropy is above `least`, nats."""
    return self._outcome(self._doubt, episodes, least=np.float32(least))

  def at_random(self, episodes: Episodes, rates: Float[np.ndarray, " M"]) -> Outcome:
    """Returns the outcome of buying each modality at a rate, `[M]`."""
    return self.table(episodes, self._rng.random(episodes.valid.shape) < rates)

  def shuffled(self, episodes: Episodes, bought: Bought) -> Outcome:
    """Returns the outcome of the purchases of another episode: each one's are those of the next."""
    return self.table(episodes, np.roll(bought, 1, axis=1))

  def best_threshold(self, episodes: Episodes) -> float:
    """Returns the threshold of the entropy with the highest return."""
    most = np.log(self.agent.config.num_classes)
    found = {share * most: self.entropy(episodes, share * most) for share in _THRESHOLDS}
    return max(found, key=lambda least: found[least].returns.mean())

  def best_schedule(self, episodes: Episodes, rates: Float[np.ndarray, "T M"]) -> Schedule:
    """Returns the best schedule of numbers of purchases of each modality.

    Args:
      episodes: Episodes for choosing.
      rates: Rate at which each modality is bought at each tick; the highest come first, and of equal
        ones the latest.
    """
    times, number = rates.shape
    order = np.argsort(-(rates + 1e-6 * np.arange(times)[:, None])[1:], axis=0, kind="stable") + 1
    counts = sorted({min(count, times - 1) for count in (*_COUNTS, times - 1)})
    found = []
    for chosen in itertools.product(counts, repeat=number):
      schedule = np.zeros(rates.shape, bool)
      for m, count in enumerate(chosen):
        schedule[order[:count, m], m] = True
      found.append(schedule)
    return found[int(np.argmax(self._scores(episodes, np.stack(found))))]

  def _scores(self, episodes: Episodes, schedules: Bool[np.ndarray, "S T M"]) -> np.ndarray:
    """Returns the mean return of each of several schedules, all in one batch."""
    number, times = len(episodes.labels), len(schedules)
    tiled = lambda x, axis: np.concatenate([x] * times, axis=axis)  # noqa: E731
    values = {name: tiled(x, 1) for name, x in episodes.values.items()}
    many = Episodes(values, tiled(episodes.valid, 1), tiled(episodes.labels, 0))
    bought = np.repeat(np.moveaxis(schedules, 0, 1), number, axis=1)
    return self.table(many, bought).returns.reshape(times, number).mean(axis=1)

  def _outcome(self, run: Callable[..., Any], episodes: Episodes, **how: Any) -> Outcome:
    given = jax.tree.map(
      jnp.asarray, (episodes.values, episodes.valid, self.prices, episodes.labels)
    )
    done = run(self.params, *given, **jax.tree.map(jnp.asarray, how))
    return Outcome(*(np.asarray(x) for x in done))


def compare(
  strategies: Strategies, choosing: Episodes, held_out: Episodes, oracle: Bought | None = None
) -> dict[str, Outcome]:
  """Returns the outcomes of all strategies on `held_out`, by name.

  Args:
    strategies: Of an agent at some prices.
    choosing: Episodes on which the best schedule and threshold are chosen.
    held_out: Other episodes.
    oracle: Its purchases; None leaves it out.
  """
  nothing = np.zeros_like(held_out.valid[:, 0])
  own, habit = strategies.policy(held_out), strategies.policy(choosing).bought.mean(axis=1)
  rates = own.bought[1:].mean(axis=(0, 1))
  found = {
    "agent": own,
    "never": strategies.schedule(held_out, nothing),
    "always": strategies.schedule(held_out, ~nothing),
    "random": strategies.at_random(held_out, rates),
    "fixed": strategies.schedule(held_out, strategies.best_schedule(choosing, habit)),
    "entropy": strategies.entropy(held_out, strategies.best_threshold(choosing)),
    "shuffled": strategies.shuffled(held_out, own.bought),
  }
  return found if oracle is None else found | {"oracle": strategies.table(held_out, oracle)}


def _run(
  agent: Agent,
  choose: Callable[[Array, Array, Heads], Array],
  params: PyTree,
  values: dict[str, Array],
  valid: Array,
  prices: Array,
  labels: Array,
) -> tuple[Array, Array, Array, Array]:
  each = jnp.broadcast_to(jnp.asarray(prices), (labels.shape[0], prices.shape[0]))
  done: Rollout = agent.rollout(params, values, valid, each, choose, jax.random.key(0))
  scores = done.heads.scores[-1]
  returns = jnp.sum(rewards_of(done, each, label_errors(done, labels)), axis=0)
  return returns, jnp.argmax(scores, axis=-1) == labels, done.acquired, scores


def _doubtful(least: Array) -> Callable[[Array, Array, Heads], Array]:
  def choose(tick: Array, key: Array, heads: Heads) -> Array:
    entropy = -jnp.sum(jnp.exp(heads.scores) * heads.scores, axis=-1)
    return jnp.broadcast_to((entropy > least)[:, None], heads.logits.shape)

  return choose


def _as_actions(bought: Bought) -> Bought:
  """Returns the choices that lead to purchases: those of the tick before."""
  return np.concatenate([bought[1:], np.zeros_like(bought[:1])])
