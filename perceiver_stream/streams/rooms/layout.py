"""The contents of a room: its surfaces, objects, light, and the path of the camera."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt32

from perceiver_stream.streams.world import textures

CLASSES = ("floor", "ceiling", "wall", "table", "box", "cylinder", "ball")
ROOM = np.asarray([6.0, 3.0, 5.0])  # metres: x, y (down), z
TEXELS_PER_M = 40.0
TEXTURE = 128  # texels, a power of two
_PATH = np.asarray([[2.0, 1.1, 1.7], [4.0, 1.7, 3.3]])  # the camera stays in this box
_HIGHEST = 0.9  # metres of furniture below the path of the camera


@dataclass(frozen=True)
class Level:
  """A level of difficulty.

  Attributes:
    num_objects: Pieces of furniture and balls on the floor.
    speed: Of the camera; 1 is about 4 cm and 2 degrees a tick at 25 Hz.
    flicker: Share by which the light changes.
    num_moving: Balls that move by themselves.
    contrast: Of textures, of 255.
  """

  num_objects: int
  speed: float
  flicker: float
  num_moving: int
  contrast: float


LEVELS = {
  "easy": Level(num_objects=5, speed=0.6, flicker=0.0, num_moving=0, contrast=45.0),
  "medium": Level(num_objects=8, speed=1.0, flicker=0.0, num_moving=0, contrast=35.0),
  "hard": Level(num_objects=12, speed=1.5, flicker=0.25, num_moving=2, contrast=25.0),
}


@dataclass(frozen=True)
class Solid:
  """A box (turned about the vertical), an upright cylinder, or a ball.

  Attributes:
    shape: "box", "cylinder" or "ball".
    label: Index in `CLASSES`.
    centre: `[3]` metres.
    half: `[3]` half of its size along its own axes; of round shapes the radius is the first.
    yaw: Radians about the vertical.
    sway: `[3]` metres by which it moves to and fro; 0 where it is still.
    phase: Of that motion, radians.
    texture: Its texture.
  """

  shape: str
  label: int
  centre: Float[np.ndarray, " 3"]
  half: Float[np.ndarray, " 3"]
  yaw: float
  sway: Float[np.ndarray, " 3"]
  phase: float
  texture: UInt32[np.ndarray, "n n"]

  def place(self, time_s: float) -> Float[np.ndarray, " 3"]:
    """Returns its centre at a time."""
    return self.centre + self.sway * np.sin(0.9 * time_s + self.phase)


@dataclass(frozen=True)
class Scene:
  """A room.

  Attributes:
    level: Its difficulty.
    surfaces: Textures of the two walls across x, ceiling and floor, and the two walls across z.
    solids: Objects that stand or move in it.
    waves: `[6, 3, 3]`: of position and rotation, three sines each of (amplitude, rate, phase).
    heading: Radians per second by which the camera turns on the whole.
    light: Position of the light, `[3]`.
  """

  level: Level
  surfaces: list[UInt32[np.ndarray, "n n"]]
  solids: list[Solid]
  waves: Float[np.ndarray, "6 3 3"]
  heading: float
  light: Float[np.ndarray, " 3"]

  def pose(self, time_s: float) -> Float[np.ndarray, "3 4"]:
    """Returns the camera-to-world pose at a time, a smooth function of it."""
    time = self.level.speed * time_s
    size, rate, phase = np.moveaxis(self.waves, -1, 0)
    state = np.sum(size * np.sin(rate * time + phase), axis=-1)
    middle, reach = _PATH.mean(axis=0), (_PATH[1] - _PATH[0]) / 2
    yaw, pitch, roll = self.heading * time + state[3], 0.25 * state[4] - 0.2, 0.15 * state[5]
    turn = _about(1, yaw) @ _about(0, pitch) @ _about(2, roll)
    return np.concatenate([turn, (middle + reach * state[:3])[:, None]], axis=1)


def _about(axis: int, angle: float) -> Float[np.ndarray, "3 3"]:
  """Returns the rotation about a coordinate axis."""
  cos, sin = np.cos(angle), np.sin(angle)
  matrix = np.eye(3)
  one, other = [i for i in range(3) if i != axis]
  matrix[one, one] = matrix[other, other] = cos
  matrix[one, other], matrix[other, one] = (sin, -sin) if axis == 1 else (-sin, sin)
  return matrix


def _texture(rng: np.random.Generator, contrast: float) -> UInt32[np.ndarray, "n n"]:
  pattern = textures.noise(rng, TEXTURE, finest=3.0, octaves=4)
  textures.litter(rng, pattern, num=12, largest=14.0)
  return textures.paint(pattern, rng.uniform(70, 185, 3), contrast)


def _waves(rng: np.random.Generator) -> Float[np.ndarray, "6 3 3"]:
  """Returns sines whose sum stays within 1, slow ones large."""
  rates = rng.uniform([0.7, 1.6, 2.8], [1.2, 2.6, 4.0], (6, 3))
  sizes = np.broadcast_to([0.62, 0.26, 0.1], (6, 3))
  return np.stack([sizes, rates, rng.uniform(0, 2 * np.pi, (6, 3))], axis=-1)


def sample(rng: np.random.Generator, level: Level) -> Scene:
  """Returns a room with objects that stand on its floor and do not overlap."""
  surfaces = [_texture(rng, level.contrast) for _ in range(6)]
  solids: list[Solid] = []
  taken: list[tuple[np.ndarray, float]] = []
  for index in range(level.num_objects):
    moves = index < level.num_moving
    solids += _object(rng, level.contrast, taken, "ball" if moves else None, moves)
  heading = float(rng.choice([-1, 1]) * rng.uniform(0.25, 0.45))
  light = rng.uniform([1, 0.1, 1], [5, 0.4, 4])
  return Scene(level, surfaces, solids, _waves(rng), heading, light)


def _object(
  rng: np.random.Generator,
  contrast: float,
  taken: list[tuple[np.ndarray, float]],
  kind: str | None,
  moves: bool,
) -> list[Solid]:
  """Returns the solids of an object at a free place, or nothing where there is none."""
  kind = kind or str(rng.choice(["table", "box", "cylinder", "ball"]))
  half = rng.uniform([0.2, 0.2, 0.2], [0.45, _HIGHEST / 2, 0.45])
  if kind == "table":
    half = rng.uniform([0.4, 0.03, 0.35], [0.8, 0.05, 0.6])
  if kind == "ball":
    half = np.full(3, rng.uniform(0.15, 0.35))
  radius = float(np.hypot(half[0], half[2])) + 0.25 * moves
  place = _free(rng, radius, taken)
  if place is None:
    return []
  taken.append((place, radius))
  label = CLASSES.index(kind)
  yaw, phase = float(rng.uniform(0, np.pi)), float(rng.uniform(0, 2 * np.pi))
  sway = np.asarray([0.5, 0.0, 0.5]) * rng.uniform(-0.6, 0.6, 3) if moves else np.zeros(3)

  def solid(shape: str, height: float, half: np.ndarray) -> Solid:
    centre = np.asarray([place[0], ROOM[1] - height, place[1]])
    return Solid(shape, label, centre, half, yaw, sway, phase, _texture(rng, contrast))

  if kind == "table":
    top = float(rng.uniform(0.55, _HIGHEST))
    leg = np.asarray([0.08, top / 2, 0.08])
    return [solid("box", top - half[1], half), solid("cylinder", top / 2, leg)]
  return [solid("cylinder" if kind == "cylinder" else kind, float(half[1]), half)]


def _free(
  rng: np.random.Generator, radius: float, taken: list[tuple[np.ndarray, float]]
) -> np.ndarray | None:
  """Returns a place (x, z) for a circle that overlaps none; None after fifty tries."""
  for _ in range(50):
    place = rng.uniform(radius, ROOM[[0, 2]] - radius)
    if all(np.hypot(*(place - other)) > radius + reach for other, reach in taken):
      return place
  return None
