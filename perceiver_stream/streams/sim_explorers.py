"""Scripted explorers that control the camera.

They get the player's view, the distance to the next obstacle in each direction, and their position;
all they do follows from that and a seed.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

NUM_SECTORS = 9  # directions in which free distance is measured, left to right
CLOSE, BLOCKED = 2.0, 1.0  # metres of free path ahead below which it turns, and stops
_TURN = 6.0  # degrees per tic at most
_FORWARD, _BACK, _SIDE = 14.0, -10.0, 8.0  # of the game's speed units, 50 being the most


class View(NamedTuple):
  """The observation of an explorer.

  Attributes:
    clear: `[NUM_SECTORS]` metres to the next obstacle, left to right.
    x: Position, metres.
    y: Position, metres.
    angle: Degrees, counterclockwise.
  """

  clear: np.ndarray
  x: float
  y: float
  angle: float


class Walker:
  """Walks in curves at random, turns off where it gets narrow, and backs out where it is stuck."""

  def __init__(self, seed: int, tics: int):
    """Makes an explorer who decides every `tics` 35ths of a second."""
    self.rng, self.tics = np.random.default_rng(seed), tics
    self.turn, self.side = 0.0, 0.0
    self.stuck_s, self.escape_s, self.shoot_s = 0.0, 0.0, 0.0
    self.last = (np.inf, np.inf)

  def act(self, view: View) -> np.ndarray:
    """Returns forward, right, turn to the right (per tic), shoot, and use."""
    step_s = self.tics / 35
    moved = np.hypot(view.x - self.last[0], view.y - self.last[1])
    self.last = (view.x, view.y)
    self.stuck_s = self.stuck_s + step_s if moved < 0.3 * step_s else 0.0
    self.escape_s -= step_s
    self.shoot_s -= step_s
    if self.shoot_s < -self.rng.exponential(20.0):
      self.shoot_s = 1.0
    if self.stuck_s > 1.0:  # back off, turning one way, for a while
      self.stuck_s, self.escape_s = 0.0, self.rng.uniform(0.8, 2.0)
      self.turn, self.side = self.rng.choice([-1, 1]) * _TURN, self.rng.choice([-1, 1]) * _SIDE
      return np.array([0, 0, 0, 0, 1.0])  # it may be a door
    shoot = float(self.shoot_s > 0)
    if self.escape_s > 0:
      return np.array([_BACK, self.side, self.turn, shoot, 0])
    ahead = float(np.min(view.clear[NUM_SECTORS // 2 - 1 : NUM_SECTORS // 2 + 2]))
    self.turn = self.steer(view, ahead)
    forward = _FORWARD * min(1.0, max(0.0, ahead - BLOCKED) / CLOSE)
    return np.array(
      [forward, 0, self.turn, shoot, float(ahead < BLOCKED and self.rng.random() < 0.1)]
    )

  def steer(self, view: View, ahead: float) -> float:
    """Returns degrees to the right per tic."""
    if ahead < CLOSE:
      if abs(self.turn) < _TURN:  # continues turning in the same direction
        half = NUM_SECTORS // 2
        right = view.clear[-half:].sum() > view.clear[:half].sum()
        return _TURN if right else -_TURN
      return self.turn
    calm = 0.97**self.tics
    noise = self.rng.normal() * np.sqrt(1 - calm**2)
    return float(np.clip(calm * self.turn + noise, -_TURN / 2, _TURN / 2))


class Roamer(Walker):
  """Goes where it is clear and it has not been for long; remembers the places."""

  _CELL = 2.0  # metres

  def __init__(self, seed: int, tics: int):
    super().__init__(seed, tics)
    self.visits: Counter[tuple[int, int]] = Counter()
    self.goal: float | None = None
    self.goal_s = 0.0

  def steer(self, view: View, ahead: float) -> float:
    """Returns degrees to the right per tic, towards the goal, chosen anew every few seconds."""
    self.visits[self._cell(view.x, view.y)] += 1
    self.goal_s -= self.tics / 35
    if ahead < CLOSE:
      self.goal = None
      return super().steer(view, ahead)
    if self.goal is None or self.goal_s < 0:
      self.goal, self.goal_s = self._choose(view), self.rng.uniform(1.0, 3.0)
    error = (view.angle - self.goal + 180) % 360 - 180
    return float(np.clip(error / max(self.tics, 7), -_TURN / 2, _TURN / 2))

  def _choose(self, view: View) -> float:
    offsets = np.linspace(40, -40, NUM_SECTORS)  # degrees to the left
    scores = []
    for offset, clear in zip(offsets, view.clear, strict=True):
      direction = np.radians(view.angle + offset)
      way = np.arange(self._CELL, min(clear, 20.0), self._CELL)
      known = [
        self.visits[self._cell(view.x + d * np.cos(direction), view.y + d * np.sin(direction))]
        for d in way
      ]
      scores.append(np.sum(1 / (1 + np.array(known))) + self.rng.exponential(0.5))
    return float(view.angle + offsets[int(np.argmax(scores))])

  def _cell(self, x: float, y: float) -> tuple[int, int]:
    return int(x // self._CELL), int(y // self._CELL)


EXPLORERS = {"walker": Walker, "roamer": Roamer}


def clear_ahead(depth: np.ndarray) -> np.ndarray:
  """Returns metres to the next obstacle by sector, of perpendicular depth `[H, W]`.

  The band around the horizon counts, without steps and ceilings.
  """
  height = depth.shape[0]
  nearest = np.min(depth[int(0.48 * height) : int(0.58 * height)], axis=0)
  sectors = nearest[: len(nearest) // NUM_SECTORS * NUM_SECTORS].reshape(NUM_SECTORS, -1)
  return np.sort(sectors, axis=1)[:, sectors.shape[1] // 5]  # a fifth of a sector may be closer
