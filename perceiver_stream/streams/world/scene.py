"""The objects of a scene and their motion in closed form, so any time can be evaluated."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt32

from perceiver_stream.streams.world import textures

GROUND_DEPTH, NEAREST = 10.0, 2.0  # metres
UNIT = 128  # lengths of a level are for an image of this size
STAR, SUPERELLIPSE = 1, 2  # shapes; 0 is an ellipse
_CORNER = 2**0.25  # how far out a superellipse of width 1 reaches


class Level(NamedTuple):
  """A level of difficulty; lengths are in pixels of an image of 128.

  Attributes:
    things: Least and largest number of objects.
    camera: Amplitude of the camera, pixels.
    turn: Amplitude of its roll, radians.
    zoom: Amplitude of its zoom, natural logarithm.
    swing: Amplitude of the objects.
    hop: Height of their hops.
    spin: Amplitude of their rotation, radians.
    noise: Standard deviation of the sensor's noise, of 255.
    lighting: Largest drift of the light's gain from 1.
  """

  things: tuple[int, int]
  camera: float
  turn: float
  zoom: float
  swing: float
  hop: float
  spin: float
  noise: float
  lighting: float


LEVELS = {
  "easy": Level((2, 3), 5.3, 0.05, 0.04, 5.0, 7.0, 0.4, 0.0, 0.0),
  "medium": Level((3, 5), 17.5, 0.14, 0.10, 11.0, 17.0, 0.8, 2.0, 0.0),
  "hard": Level((4, 7), 24.0, 0.18, 0.13, 22.0, 36.0, 1.2, 4.0, 0.15),
}


class Wave(NamedTuple):
  """Sums of two sines: how anything moves that moves smoothly.

  Attributes:
    size: Amplitudes.
    pace: Angular frequencies, radians per second.
    phase: Phases.
  """

  size: Float[np.ndarray, "*n 2"]
  pace: Float[np.ndarray, "*n 2"]
  phase: Float[np.ndarray, "*n 2"]

  def at(self, time: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t ..."]:
    """Returns the value at some times."""
    return np.sum(self.size * np.sin(self._angle(time)), -1)

  def integral(self, time: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t ..."]:
    """Returns a function whose derivative is the value."""
    return np.sum(-self.size / self.pace * np.cos(self._angle(time)), -1)

  def _angle(self, time: np.ndarray) -> np.ndarray:
    return self.pace * time.reshape(-1, *[1] * self.pace.ndim) + self.phase


class Scene(NamedTuple):
  """A world between two cuts. Layer 0 is the ground, 1 to K the objects, the nearest last.

  Attributes:
    middle: (x, y) of the image's centre.
    textures: One per layer; the ground's is the first.
    depth: Metres, by layer.
    camera: x, y, roll (radians) and log zoom of the camera.
    light: Gain of the light, less 1.
    centre: Mean positions of the objects.
    swing: x, y, angle and log size of each object.
    hop: Height of its hops, 0 for objects that do not hop.
    up: Direction of its hops.
    beat: Seconds from one hop to the next.
    offset: Phase of its hop at time 0, in [0, 1).
    shape: 0, `STAR` or `SUPERELLIPSE`.
    points: Of a star.
    radius: Farthest reach of its shape.
    narrow: Height of its shape by its width.
    pitch_hz: Of its hum.
  """

  middle: Float[np.ndarray, " 2"]
  textures: list[UInt32[np.ndarray, "..."]]
  depth: Float[np.ndarray, " L"]
  camera: Wave
  light: Wave
  centre: Float[np.ndarray, "K 2"]
  swing: Wave
  hop: Float[np.ndarray, " K"]
  up: Float[np.ndarray, "K 2"]
  beat: Float[np.ndarray, " K"]
  offset: Float[np.ndarray, " K"]
  shape: np.ndarray
  points: np.ndarray
  radius: Float[np.ndarray, " K"]
  narrow: Float[np.ndarray, " K"]
  pitch_hz: Float[np.ndarray, " K"]

  def places(self, time: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t K 2"]:
    """Returns the positions of the objects on the ground, without the camera."""
    part = np.mod(time[:, None] / self.beat + self.offset, 1.0)
    height = self.hop * 4 * part * (1 - part)
    return self.centre + self.swing.at(time)[..., :2] + height[..., None] * self.up

  def affines(self, time: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t L 2 3"]:
    """Returns the maps from the coordinates of each layer to the image."""
    camera, swing = self.camera.at(time), self.swing.at(time)
    view = _turn(camera[:, 2], np.exp(camera[:, 3]))[:, None]
    own = np.empty((len(time), len(self.depth), 2, 3))
    own[:, 0] = np.eye(2, 3)
    own[:, 1:, :, :2] = _turn(swing[..., 2], np.exp(swing[..., 3]))
    own[:, 1:, :, 2] = self.places(time)
    near = 1 + 0.5 * (GROUND_DEPTH - self.depth) / GROUND_DEPTH  # parallax
    own[..., 2] -= near[:, None] * camera[:, None, :2]
    # Written out: a product of 2 x 2 matrices that is the same to the last bit on any machine.
    product = view[..., :1] * own[..., :1, :] + view[..., 1:] * own[..., 1:, :]
    product[..., 2] += self.middle
    return product

  def gauge(
    self, k: int, x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."]
  ) -> Float[np.ndarray, "..."]:
    """Returns the radial coordinate of a position in layer k >= 1: below 1 inside the shape."""
    k -= 1
    x, y = x / self.radius[k], y / self.radius[k]
    if self.shape[k] == STAR:
      wave = 0.72 + 0.28 * np.cos(self.points[k] * np.arctan2(y, x))
      return np.sqrt(x * x + y * y) / wave
    y = y / self.narrow[k]
    x, y = x * x, y * y
    if self.shape[k] == SUPERELLIPSE:
      return _CORNER * np.sqrt(np.sqrt(x * x + y * y))
    return np.sqrt(x + y)

  def impacts(self, start: float, end: float) -> list[tuple[float, int]]:
    """Returns the impacts of layers in (start, end], in order."""
    found = []
    for k in np.flatnonzero(self.hop):
      first, last = (np.floor(np.array([start, end]) / self.beat[k] + self.offset[k])).astype(int)
      found += [
        (float((n - self.offset[k]) * self.beat[k]), int(k) + 1) for n in range(first + 1, last + 1)
      ]
    return sorted(found)


def _turn(angle: np.ndarray, scale: np.ndarray) -> np.ndarray:
  cos, sin = scale * np.cos(angle), scale * np.sin(angle)
  return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def invert(affine: Float[np.ndarray, "*n 2 3"]) -> Float[np.ndarray, "*n 2 3"]:
  """Returns the inverse maps."""
  (a, b, x), (c, d, y) = np.moveaxis(affine, (-2, -1), (0, 1))
  det = a * d - b * c
  a, b, c, d = d / det, -b / det, -c / det, a / det
  rows = [np.stack([a, b, -a * x - b * y], -1), np.stack([c, d, -c * x - d * y], -1)]
  return np.stack(rows, -2)


def chain(
  second: Float[np.ndarray, "*n 2 3"], first: Float[np.ndarray, "*n 2 3"]
) -> Float[np.ndarray, "*n 2 3"]:
  """Returns the maps that do `first`, then `second`."""
  both = second[..., :1] * first[..., :1, :] + second[..., 1:2] * first[..., 1:, :]
  both[..., 2] += second[..., 2]
  return both


def make(
  rng: np.random.Generator, height: int, width: int, level: Level, camera: float, num: int
) -> Scene:
  """Returns a scene of `num` objects; `camera` scales all motion of the camera."""
  size = max(height, width)
  unit = size / UNIT
  depth = GROUND_DEPTH - (GROUND_DEPTH - NEAREST) * (np.arange(num + 1) / (num + 0.5))
  depth[1:] += rng.uniform(-0.4, 0.4, num) * (GROUND_DEPTH - NEAREST) / (num + 0.5)
  reach = np.array([level.camera * unit] * 2 + [level.turn, level.zoom])
  things = np.array([level.swing * unit] * 2 + [level.spin, level.zoom])
  radius = rng.uniform(12, 25, num) * unit
  hops = (rng.random(num) < 0.6) | (np.arange(num) == 0)
  tilt = rng.uniform(-0.6, 0.6, num)
  return Scene(
    middle=np.array([width / 2, height / 2]),
    textures=_textures(rng, size, radius),
    depth=depth,
    camera=_wave(rng, camera * reach, 1.0),
    light=_wave(rng, np.array(level.lighting), 0.3),
    centre=rng.uniform(-0.4, 0.4, (num, 2)) * (width, height),
    swing=_wave(rng, np.broadcast_to(things, (num, 4)), 1.2),
    hop=rng.uniform(0.6, 1.4, num) * level.hop * unit * hops,
    up=np.stack([np.sin(tilt), -np.cos(tilt)], -1),
    beat=rng.uniform(0.9, 1.6, num),
    offset=rng.random(num),
    shape=rng.integers(0, 3, num),
    points=rng.integers(3, 8, num),
    radius=radius,
    narrow=rng.uniform(0.55, 1.0, num),
    pitch_hz=rng.uniform(200, 900, num),
  )


def _wave(rng: np.random.Generator, size: np.ndarray, pace: float) -> Wave:
  shape = (*size.shape, 2)
  return Wave(
    size=size[..., None] * rng.uniform(0.6, 1.4, shape) * (0.8, 0.4),
    pace=pace * rng.uniform(0.8, 1.2, shape) * (2.8, 6.0),
    phase=rng.uniform(0, 2 * np.pi, shape),
  )


def _textures(
  rng: np.random.Generator, size: int, radius: Float[np.ndarray, " K"]
) -> list[UInt32[np.ndarray, "..."]]:
  fine = max(2.0, 3 * size / UNIT)
  sizes = [_power_of_two(3.5 * size)] + [_power_of_two(2 * r) for r in radius]
  found = []
  for k, side in enumerate(sizes):
    texture = textures.noise(rng, side, fine, 3 if k else 6)
    if k == 0:
      textures.litter(rng, texture, num=60, largest=size / 6)
    colour, contrast = rng.uniform(70, 185, 3), 45.0 if k else 32.0
    found.append(textures.paint(texture, colour, contrast))
  return found


def _power_of_two(least: float) -> int:
  return 1 << max(2, int(np.ceil(np.log2(least))))
