"""Shared by simulators: recordings made while they are read; resuming replays them.

A world is one recording. It follows from (config, row, number of the recording) alone, bit for bit,
so a position is three whole numbers, and restoring it means replaying the recording's ticks up to
there. `ticks_per_recording` bounds how long that takes.
"""

import abc
from collections.abc import Callable
from typing import Any, Protocol

import grain
import numpy as np

from perceiver_stream.streams.base import StreamConfig, check_state, exact_rate, make_tick


class World(Protocol):
  """One recording."""

  def read(self) -> dict[str, np.ndarray] | None:
    """Returns the next tick's values by modality; None where the recording is over."""
    ...

  def skip(self, ticks: int) -> None:
    """Advances by some ticks without output."""
    ...

  def close(self) -> None:
    """Lets go of the simulator."""
    ...


class Played(abc.ABC):
  """A recording without a simulator: its current observation, and a step of one tick."""

  @abc.abstractmethod
  def look(self) -> dict[str, np.ndarray]:
    """Returns the values of this tick."""

  @abc.abstractmethod
  def move(self) -> None:
    """Advances by a tick."""

  def read(self) -> dict[str, np.ndarray]:
    """Returns the next tick's values."""
    values = self.look()
    self.move()
    return values

  def skip(self, ticks: int) -> None:
    """Advances by some ticks without output."""
    for _ in range(ticks):
      self.move()

  def close(self) -> None:  # noqa: B027
    """Lets go of nothing."""


def seed_of(seed: int, row: int, recording: int) -> int:
  """Returns the seed of a recording, another one for each, below 2³¹."""
  return int(np.random.SeedSequence((seed, row, recording)).generate_state(1)[0] >> 1)


class SimStream(grain.IterDataset):
  """The recordings of one row, one after another without end.

  Attributes:
    config: Of the stream; with `max_ticks` and `ticks_per_recording`.
    row: Whose recordings.
    open_world: Makes a recording of (config, row, number).
  """

  def __init__(self, config: StreamConfig, row: int, open_world: Callable[[Any, int, int], World]):
    super().__init__()
    self.config, self.row, self.open_world = config, row, open_world

  def __iter__(self) -> "SimIterator":
    return SimIterator(self.config, self.row, self.open_world)


class SimIterator(grain.DatasetIterator):
  """Holds one simulator, started at the first tick."""

  def __init__(self, config: Any, row: int, open_world: Callable[[Any, int, int], World]):
    super().__init__()
    self._config, self._row, self._open = config, row, open_world
    self._rate = exact_rate(config.rate_hz)
    self._world: World | None = None
    self._state = {"count": 0, "recording": 0, "tick": 0}

  def __next__(self) -> dict[str, Any]:
    self._assert_not_closed()
    state, config = self._state, self._config
    if 0 < config.max_ticks <= state["count"]:
      self._drop()
      raise StopIteration
    values = self._read()
    while values is None:
      if not state["tick"]:
        raise RuntimeError(
          f"{type(config).__module__}: recording {state['recording']} of row {self._row} was over "
          f"before its first tick; try another seed."
        )
      self._drop()
      state |= {"recording": state["recording"] + 1, "tick": 0}
      values = self._read()
    pairs = {name: (value, True) for name, value in values.items()}
    tick = make_tick(pairs, state["tick"] == 0, state["count"] / self._rate)
    state |= {"count": state["count"] + 1, "tick": state["tick"] + 1}
    return tick

  def _read(self) -> dict[str, np.ndarray] | None:
    tick = self._state["tick"]
    if 0 < self._config.ticks_per_recording <= tick:
      return None
    if self._world is None:
      self._world = self._open(self._config, self._row, self._state["recording"])
      self._world.skip(tick)
    return self._world.read()

  def _drop(self) -> None:
    if self._world is not None:
      self._world.close()
      self._world = None

  def get_state(self) -> dict[str, int]:
    """Returns the ticks so far, the recording, and its next tick."""
    return dict(self._state)

  def set_state(self, state: dict[str, int]) -> None:
    """Goes to a tick, lazily: its recording is replayed up to there at the next read."""
    check_state("simulator stream", state, self._state)
    self._drop()
    self._state = {name: int(value) for name, value in state.items()}

  def close(self) -> None:
    """Ends the simulator."""
    super().close()
    self._drop()
