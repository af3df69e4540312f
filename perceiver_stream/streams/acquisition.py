"""Observations at a price: an environment over the episodes of any stream.

At each tick an agent decides which modalities it acquires at the *next* tick; a decision cannot depend on
what it buys. Nothing is acquired at the first tick. An episode is a number of ticks of one recording;
at its last tick the agent's class scores are rewarded by log softmax(scores)[label].

Source: A2MT (2211.05039), of which no code is released; delays, prices and rewards are our reading.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from perceiver_stream.types import IS_FIRST, valid_key

LABEL = "label"


class Episode(NamedTuple):
  """Ticks of one recording.

  Attributes:
    values: Observations by modality, `[T, ...]`.
    valid: Ticks at which the stream has each, `[T]` bool.
    label: Class of the episode: the label of its last tick.
  """

  values: dict[str, np.ndarray]
  valid: dict[str, Bool[np.ndarray, " T"]]
  label: int


def episodes(
  ticks: Iterable[Mapping[str, Any]], names: Sequence[str], num_ticks: int, *, label: str = LABEL
) -> Iterator[Episode]:
  """Yields the episodes of a stream: `num_ticks` ticks, and again, from the start of each recording.

  Ticks at the end of a recording that do not fill an episode are left out.

  Args:
    ticks: Of one row.
    names: Modalities that can be acquired.
    num_ticks: T.
    label: Key of the class.

  Raises:
    ValueError: The stream lacks a modality or the label.
  """
  kept: list[Mapping[str, Any]] = []
  for tick in ticks:
    missing = [name for name in (*names, label) if name not in tick]
    if missing:
      raise ValueError(f"episodes: the stream has no {missing}; it has {sorted(tick)}.")
    kept = [tick] if tick[IS_FIRST] else [*kept, tick]
    if len(kept) == num_ticks:
      values = {name: np.stack([t[name] for t in kept]) for name in names}
      valid = {name: np.array([bool(t.get(valid_key(name), True)) for t in kept]) for name in names}
      yield Episode(values, valid, int(kept[-1][label]))
      kept = []


class Step(NamedTuple):
  """Result of a step.

  Attributes:
    observation: As `Acquisition.reset` returns it.
    reward: Minus the prices of what was acquired; with the log probability of the label at the end.
    ended: True after the last tick; call `reset` next.
    paid: Price of what was acquired.
  """

  observation: dict[str, np.ndarray]
  reward: float
  ended: bool
  paid: float


class Acquisition:
  """The environment; it has no random numbers of its own.

  Args:
    source: Episodes of equal length; it may end.
    prices: Price of a tick of each modality, in nats; its names are those that can be acquired.
    num_classes: Number of scores.

  Raises:
    ValueError: A price is negative or not finite.
  """

  def __init__(self, source: Iterator[Episode], prices: Mapping[str, float], num_classes: int):
    bad = {name: price for name, price in prices.items() if not 0 <= price < np.inf}
    if bad or not prices:
      raise ValueError(
        f"Acquisition: prices={dict(prices)}; give one or more modalities prices of 0 or more."
      )
    self.names = tuple(prices)
    self.prices = np.array(list(prices.values()), np.float64)
    self.num_classes = num_classes
    self._source, self._episode, self._tick = source, None, 0

  @property
  def episode(self) -> Episode:
    """The episode that is played.

    Raises:
      RuntimeError: None is.
    """
    if self._episode is None:
      raise RuntimeError("Acquisition: no episode is played; call reset first.")
    return self._episode

  def reset(self) -> dict[str, np.ndarray]:
    """Starts the next episode, and returns the observation of its first tick: nothing is acquired.

    An observation has `<name>`, zeros if it was not acquired, and `<name>_valid` of each modality, and
    `tick`, int64.

    Raises:
      StopIteration: There is no further episode.
    """
    self._episode, self._tick = next(self._source), 0
    return self._look(np.zeros(len(self.names), bool))

  def step(
    self, acquire: Bool[np.ndarray, " M"], scores: Float[np.ndarray, " K"] | None = None
  ) -> Step:
    """Goes to the next tick, or ends the episode.

    Args:
      acquire: Modalities to acquire at the next tick, in the order of `prices`; without effect at the
        last tick. What the stream lacks is not paid for.
      scores: Logits of the classes; read at the last tick only, None are equal ones.

    Raises:
      RuntimeError: No episode is played.
      ValueError: An argument has another shape.
    """
    acquire, episode = np.asarray(acquire, bool), self.episode
    scores = np.zeros(self.num_classes) if scores is None else np.asarray(scores, np.float64)
    if acquire.shape != self.prices.shape or scores.shape != (self.num_classes,):
      raise ValueError(
        f"Acquisition.step: acquire {acquire.shape} and scores {scores.shape}; expected "
        f"{self.prices.shape}, one for each of {self.names}, and {(self.num_classes,)}."
      )
    if self._tick == len(episode.valid[self.names[0]]) - 1:
      last = self._look(np.zeros(len(self.names), bool))
      self._episode = None
      return Step(last, float(_log_softmax(scores)[episode.label]), True, 0.0)
    self._tick += 1
    acquire = acquire & np.array([episode.valid[name][self._tick] for name in self.names])
    paid = float(self.prices @ acquire)
    return Step(self._look(acquire), -paid, False, paid)

  def _look(self, acquired: Bool[np.ndarray, " M"]) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {"tick": np.asarray(self._tick, np.int64)}
    for name, has in zip(self.names, acquired, strict=True):
      value = self.episode.values[name][self._tick]
      seen |= {name: value.copy() if has else np.zeros_like(value), valid_key(name): np.array(has)}
    return seen


def _log_softmax(scores: np.ndarray) -> np.ndarray:
  shifted = scores - scores.max()
  return shifted - np.log(np.exp(shifted).sum())
