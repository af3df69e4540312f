"""A walk through a maze in first person: walls of many colours, depth, and the path.

After the lifelong-learning literature ("Lifelong learning of video diffusion models from a single
video stream", 2025), whose streams are not released; the maze is our own.
"""

import colorsys
from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import Bool, Float, Int

from perceiver_stream.streams.base import StreamConfig, exact_rate, pixels_spec
from perceiver_stream.streams.sim_recordings import Played, SimStream, seed_of
from perceiver_stream.types import ModalitySpec

CLASSES = ("floor", "ceiling", "wall")
FARTHEST, NEAREST = 16.0, 0.05  # metres; a cell is a metre wide, and as high
EYE = 0.5  # metres above the floor
STEPS = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}  # x, y


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A maze and one who walks through it, never back unless it must.

  Ticks hold `pixels`, `depth` (metres along the line of sight's axis), `segmentation` (index in
  `CLASSES`) and `camera` (x, y in metres, cosine and sine of the heading).

  Attributes:
    audio_rate_hz: 0: the maze is silent.
    height: Rows of the image, 90° across for a square one.
    width: Columns.
    cells: Rows and columns of corridors.
    speed: Metres per second.
    turn: Radians per second.
    ticks_per_night: In which the light goes from day to night and back; 0: it is day.
    ticks_per_recording: Ticks after which another maze begins, with `is_first`; 0 is never.
    seed: Of the maze, its colours and the way.
  """

  audio_rate_hz: int = 0
  height: int = 32
  width: int = 32
  cells: int = 6
  speed: float = 1.5
  turn: float = 2.5
  ticks_per_night: int = 0
  ticks_per_recording: int = 0
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.audio_rate_hz:
      raise ValueError("maze: there is no sound; use audio_rate_hz=0.")
    limits = {"height": (8, 1024), "width": (8, 1024), "cells": (2, 100), "seed": (0, 2**63)}
    limits |= {"ticks_per_night": (0, 2**31), "ticks_per_recording": (0, 2**31)}
    limits |= {"speed": (0.1, 10), "turn": (0.1, 20)}
    for name, (least, most) in limits.items():
      if not least <= getattr(self, name) <= most:
        raise ValueError(f"maze: {name}={getattr(self, name)}; use {least} to {most}.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  size, rate = (config.height, config.width), float(exact_rate(config.rate_hz))
  return {
    "pixels": pixels_spec(config, *size),
    "depth": ModalitySpec(shape=size, minimum=NEAREST, maximum=FARTHEST, rate_hz=rate, units="m"),
    "segmentation": ModalitySpec(
      shape=size, dtype="int32", maximum=len(CLASSES) - 1.0, rate_hz=rate, units="class id"
    ),
    "camera": ModalitySpec(
      shape=(4,), maximum=0.0, rate_hz=rate, units="m, m, cosine and sine of the heading"
    ),
  }


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Walk)


class Walk(Played):
  """One recording."""

  def __init__(self, config: Config, row: int, recording: int):
    self._config, self._tick = config, 0
    self._rng = np.random.default_rng(seed_of(config.seed, row, recording))
    self._walls = dig(self._rng, config.cells)
    self._hues = self._rng.random(self._walls.shape)
    self._place, self._came = np.array([1.5, 1.5]), (0, 0)
    self._goal = self._next_goal()
    self._heading = float(np.arctan2(*(self._goal - self._place)[::-1]))
    focal = config.width / 2
    self._across = (np.arange(config.width) + 0.5 - config.width / 2) / focal
    self._down = (np.arange(config.height) + 0.5 - config.height / 2) / focal

  def _next_goal(self) -> Float[np.ndarray, " 2"]:
    """Returns the middle of a neighbouring cell: any but the one it came from, if there is one."""
    column, line = np.floor(self._place).astype(int)
    open_ways = [(x, y) for x, y in STEPS.values() if not self._walls[line + y, column + x]]
    onward = [way for way in open_ways if way != (-self._came[0], -self._came[1])] or open_ways
    self._came = onward[int(self._rng.integers(len(onward)))]
    return np.array([column + 0.5 + self._came[0], line + 0.5 + self._came[1]])

  def move(self) -> None:
    """Advances by a tick: turns to the goal, and walks once it faces it."""
    self._tick += 1
    seconds = 1 / float(exact_rate(self._config.rate_hz))
    away = self._goal - self._place
    wanted = np.arctan2(away[1], away[0]) - self._heading
    wanted = (wanted + np.pi) % (2 * np.pi) - np.pi
    most = self._config.turn * seconds
    self._heading += float(np.clip(wanted, -most, most))
    if abs(wanted) <= most:
      distance, stride = np.hypot(*away), self._config.speed * seconds
      self._place = self._place + away * min(1, stride / distance)
      if distance <= stride:
        self._goal = self._next_goal()

  def look(self) -> dict[str, np.ndarray]:
    """Returns the values of this tick."""
    depth, hue, side = self._cast()
    top, bottom = -(1 - EYE) / depth, EYE / depth  # of the wall, in tangents
    down = self._down[:, None]
    label = np.where(down > bottom, 0, np.where(down < top, 1, 2))
    with np.errstate(divide="ignore"):
      plane = np.where(down > 0, EYE, 1 - EYE) / np.abs(down)
    metres = np.where(label == 2, depth, np.minimum(plane, FARTHEST))
    metres = np.clip(metres, NEAREST, FARTHEST).astype(np.float32)
    flat = np.array([(0.35, 0.3, 0.25), (0.55, 0.6, 0.7)])
    wall = np.array(
      [colorsys.hsv_to_rgb(h, 0.7, 0.95 if s else 0.7) for h, s in zip(hue, side, strict=True)]
    )
    colour = np.where((label == 2)[..., None], wall[None], flat[np.minimum(label, 1)])
    light = self._light() / (1 + 0.15 * metres[..., None])
    return {
      "pixels": np.rint(255 * colour * light).astype(np.uint8),
      "depth": metres,
      "segmentation": label.astype(np.int32),
      "camera": np.array([*self._place, np.cos(self._heading), np.sin(self._heading)], np.float32),
    }

  def _light(self) -> float:
    night = self._config.ticks_per_night
    return 1.0 if not night else 0.6 + 0.4 * float(np.cos(2 * np.pi * self._tick / night))

  def _cast(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns for every column the distance of the wall, its hue, and its visible side."""
    ahead = np.array([np.cos(self._heading), np.sin(self._heading)])
    right = np.array([-ahead[1], ahead[0]])
    ray = ahead + self._across[:, None] * right  # [W, 2]; its length is 1 along the axis
    ray = np.where(np.abs(ray) < 1e-9, 1e-9, ray)
    cell = np.repeat(np.floor(self._place).astype(int)[None], len(ray), 0)
    step, per_cell = np.sign(ray).astype(int), 1 / np.abs(ray)
    ahead_of = np.where(step > 0, cell + 1 - self._place, self._place - cell) * per_cell
    depth, side = np.zeros(len(ray)), np.zeros(len(ray), int)
    open_rays: Bool[np.ndarray, " W"] = np.ones(len(ray), bool)
    while open_rays.any():
      axis: Int[np.ndarray, " W"] = np.argmin(ahead_of, axis=1)
      rays = np.flatnonzero(open_rays)
      axes = axis[rays]
      depth[rays], side[rays] = ahead_of[rays, axes], axes
      cell[rays, axes] += step[rays, axes]
      ahead_of[rays, axes] += per_cell[rays, axes]
      open_rays[rays] = ~self._walls[cell[rays, 1], cell[rays, 0]]
    return depth, self._hues[cell[:, 1], cell[:, 0]], side


def dig(rng: np.random.Generator, cells: int) -> Bool[np.ndarray, "n n"]:
  """Returns the map of walls: a connected maze of corridors with some loops."""
  walls = np.ones((2 * cells + 1, 2 * cells + 1), bool)
  way = [(0, 0)]
  walls[1, 1] = False
  while way:
    x, y = way[-1]
    ways = [
      (x + dx, y + dy)
      for dx, dy in STEPS.values()
      if 0 <= x + dx < cells and 0 <= y + dy < cells and walls[2 * (y + dy) + 1, 2 * (x + dx) + 1]
    ]
    if not ways:
      way.pop()
      continue
    u, v = ways[int(rng.integers(len(ways)))]
    walls[2 * v + 1, 2 * u + 1] = walls[y + v + 1, x + u + 1] = False
    way.append((u, v))
  inner = walls[1:-1, 1:-1]
  inner[rng.random(inner.shape) < 0.08] = False
  return walls
