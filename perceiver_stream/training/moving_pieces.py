"""Clips with exact tracks, made of single images: an image that moves behind pieces of others.

All motions are affine and change smoothly. Nothing is labelled: where each point goes follows from
how the clip was made.

Source: ours, after cut-and-paste data such as that of FlyingChairs (1504.06852).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn import sample_bilinear

_GROWTH, _TURN = 0.01, 0.02  # standard deviations of log-scale and angle per tick
_MIN_SPEED = 0.1  # pixels per tick
_LOBES = 3  # harmonics of a piece's outline
_NOISE = 0.02  # largest standard deviation of the noise of images in [0, 1]
_GAIN = 0.02  # standard deviation of the change of the log of the gain per tick


class Clip(NamedTuple):
  """A generated clip and the tracks of some points.

  Attributes:
    frames: RGB in [0, 1].
    tracks: (y, x) in pixels, whole numbers at pixel centres.
    visible: False where a point is covered or outside the image.
    inside: False where a point is outside the image.
  """

  frames: Float[Array, "T H W 3"]
  tracks: Float[Array, "T P 2"]
  visible: Bool[Array, "T P"]
  inside: Bool[Array, "T P"]


class _Layer(NamedTuple):
  """Motion and outline of an image; `shift`, `angle` and `scale` are by tick, the rest constant."""

  centre: Float[Array, "2"]
  shift: Float[Array, "T 2"]
  angle: Float[Array, " T"]
  scale: Float[Array, " T"]
  radius: Float[Array, ""]
  lobes: Float[Array, "2 n"]

  def source(self, place: Float[Array, "T N 2"]) -> Float[Array, "T N 2"]:
    """Returns the position at tick 0 of what is at `place` at each tick."""
    away = place - self._centre() - self.shift[:, None]
    return self._centre() + _turned(away, -self.angle) / self.scale.reshape(-1, 1, 1)

  def moved(self, place: Float[Array, "P 2"]) -> Float[Array, "T P 2"]:
    """Returns the position at each tick of what is at `place` at tick 0."""
    away = jnp.broadcast_to(place[None] - self._centre(), (self.angle.shape[0], *place.shape))
    turned = _turned(away, self.angle) * self.scale.reshape(-1, 1, 1)
    return self._centre() + self.shift[:, None] + turned

  def cover(self, source: Float[Array, "T N 2"]) -> Float[Array, "T N"]:
    """Returns the share of each position at tick 0 that belongs to the piece."""
    away = source - self._centre()
    angle = jnp.arctan2(away[..., 0], away[..., 1] + 1e-6)
    outline = jnp.ones_like(angle)
    for order in range(_LOBES):
      outline = outline + self.lobes[0, order] * jnp.cos((order + 2) * angle + self.lobes[1, order])
    return jax.nn.sigmoid(3 * (self.radius * outline - jnp.linalg.norm(away + 1e-6, axis=-1)))

  def _centre(self) -> Float[Array, "1 1 2"]:
    return self.centre.reshape(1, 1, 2)


def generate(
  rng: Array,
  images: Float[Array, "N H W 3"],
  points: Float[Array, "P 2"],
  *,
  ticks: int,
  max_speed: float,
) -> Clip:
  """Returns a clip of the first image behind pieces of the others.

  Args:
    rng: Key of the motions, outlines, noise and gain.
    images: RGB in [0, 1]; at least one.
    points: (y, x) in pixels at the first tick; each moves with what is in front there.
    ticks: Length.
    max_speed: Largest mean speed of an image, pixels per tick; speeds are log-uniform from 0.1.
  """
  size = images.shape[1:3]
  keys = jax.random.split(rng, len(images) + 1)
  grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, size), indexing="ij"), axis=-1)
  grid = jnp.broadcast_to(grid.reshape(1, -1, 2).astype(jnp.float32), (ticks, math.prod(size), 2))
  frames = jnp.zeros((ticks, math.prod(size), 3))
  tracks = jnp.zeros((ticks, len(points), 2))
  layers = [_layer(k, size, ticks, max_speed) for k in keys[:-1]]
  behind = jnp.zeros(len(points), jnp.int32)
  for i, (layer, image) in enumerate(zip(layers, images, strict=True)):
    source = layer.source(grid)
    colour = _mirrored(image, source)
    cover = layer.cover(source)[..., None] if i else jnp.ones((ticks, 1, 1))
    frames = frames + cover * (colour - frames)
    own = layer.cover(points[None])[0] > 0.5 if i else jnp.ones(len(points), bool)
    tracks = jnp.where(own[None, :, None], layer.moved(points), tracks)
    behind = jnp.where(own, jnp.full_like(behind, i), behind)
  ends = jnp.asarray(size, jnp.float32).reshape(1, 1, 2) - 0.5
  inside = jnp.all((tracks >= -0.5) & (tracks <= ends), axis=-1)
  visible = inside
  for i, layer in enumerate(layers[1:], 1):
    visible = visible & ~((behind < i)[None] & (layer.cover(layer.source(tracks)) > 0.5))
  return Clip(_lit(keys[-1], frames).reshape(ticks, *size, 3), tracks, visible, inside)


def _layer(rng: Array, size: tuple[int, ...], ticks: int, max_speed: float) -> _Layer:
  """Returns a random motion and outline."""
  keys = jax.random.split(rng, 7)
  side = float(min(size))
  speed = jnp.exp(
    jax.random.uniform(keys[0], (), minval=math.log(_MIN_SPEED), maxval=math.log(max_speed))
  )
  heading = jax.random.uniform(keys[1], (), maxval=2 * math.pi)
  turn, growth = jax.random.normal(keys[2], (2,)) * jnp.asarray([_TURN, _GROWTH])
  time = jnp.arange(float(ticks))
  wave = jax.random.uniform(keys[3], (2,), maxval=2 * math.pi)
  bend = heading + jnp.sin(2 * math.pi * time / 16 + wave[0]) * wave[1] / 6
  step = speed * jnp.stack([jnp.sin(bend), jnp.cos(bend)], axis=-1)
  lobes = jnp.stack(
    [
      0.2 * jax.random.uniform(keys[4], (_LOBES,)),
      jax.random.uniform(keys[5], (_LOBES,), maxval=2 * math.pi),
    ]
  )
  place = jax.random.uniform(keys[6], (3,))
  return _Layer(
    centre=place[:2] * (jnp.asarray(size, jnp.float32) - 1),
    shift=jnp.cumsum(step, axis=0) - step[:1],
    angle=turn * time,
    scale=jnp.exp(growth * time),
    radius=side * (0.08 + 0.14 * place[2]),
    lobes=lobes,
  )


def _turned(away: Float[Array, "T N 2"], angle: Float[Array, " T"]) -> Float[Array, "T N 2"]:
  cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
  y, x = away[..., 0], away[..., 1]
  return jnp.stack([cos * y - sin * x, sin * y + cos * x], axis=-1)


def _mirrored(image: Float[Array, "H W 3"], place: Float[Array, "T N 2"]) -> Float[Array, "T N 3"]:
  """Returns an image at given positions; outside, it is mirrored at its edges."""
  last = jnp.asarray(image.shape[:2], jnp.float32).reshape(1, 1, 2) - 1
  folded = jnp.abs(jnp.mod(place + last, 2 * last) - last)
  return sample_bilinear(image[None], folded[None, ..., 0], folded[None, ..., 1])[0]


def _lit(rng: Array, frames: Float[Array, "T N 3"]) -> Float[Array, "T N 3"]:
  """Returns frames with noise and a gain that changes."""
  gain, level, noise = jax.random.split(rng, 3)
  gain = jnp.exp(_GAIN * jnp.cumsum(jax.random.normal(gain, (len(frames), 1, 1)), axis=0))
  level = _NOISE * jax.random.uniform(level, ())
  return jnp.clip(gain * frames + level * jax.random.normal(noise, frames.shape), 0.0, 1.0)
