"""Tracks of points on surfaces, with exact visibility."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from perceiver_stream.streams.world import scene as scenes

CANDIDATES = 48
LATEST = 24  # ticks: a point is visible at least once this soon after its slot was assigned
LATE = 4  # every fourth point is picked later than at its first tick


class Spot(NamedTuple):
  """A place on a layer, in the layer's coordinates."""

  layer: int
  x: float
  y: float


def births(num: int, life: int, tick: int) -> Int[np.ndarray, " N"]:
  """Returns when, in ticks of the scene, each slot was given to the point it has at `tick`."""
  if not life:
    return np.zeros(num, int)
  stagger = np.arange(num) * life // num
  return np.maximum((tick + stagger) // life * life - stagger, 0)


def top_layer(
  scene: scenes.Scene,
  affine: Float[np.ndarray, "K 2 3"],
  place: Float[np.ndarray, "N 2"],
) -> Int[np.ndarray, " N"]:
  """Returns the visible layer at some positions of the image."""
  inverse = scenes.invert(affine)
  top = np.zeros(len(place), int)
  for k in range(1, len(affine)):
    (a, b, x), (c, d, y) = inverse[k]
    u = a * place[:, 0] + b * place[:, 1] + x
    v = c * place[:, 0] + d * place[:, 1] + y
    top[scene.gauge(k, u, v) <= 1] = k
  return top


def pick(
  scene: scenes.Scene,
  affine: Float[np.ndarray, "K 2 3"],
  size: tuple[int, int],
  rng: np.random.Generator,
  on_thing: bool,
) -> Spot:
  """Returns a visible spot, on an object if requested and any is found."""
  place = rng.random((CANDIDATES, 2)) * (size[1], size[0])
  top = top_layer(scene, affine, place)
  fits = np.flatnonzero((top > 0) == on_thing)
  choice = fits[0] if len(fits) else 0
  inverse = scenes.invert(affine[top[choice]])
  x, y = inverse[:, :2] @ place[choice] + inverse[:, 2]
  return Spot(int(top[choice]), float(x), float(y))


def track(
  scene: scenes.Scene,
  affine: Float[np.ndarray, "K 2 3"],
  size: tuple[int, int],
  spots: list[Spot],
) -> tuple[Float[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
  """Returns the positions of spots in the image, (x, y), and whether each is visible."""
  layer = np.array([spot.layer for spot in spots])
  local = np.array([(spot.x, spot.y) for spot in spots])
  own = affine[layer]
  place = own[..., 0] * local[:, :1] + own[..., 1] * local[:, 1:] + own[..., 2]
  inside = (place >= 0).all(1) & (place < (size[1], size[0])).all(1)
  # A spot of its own layer is on it by birth, so only nearer layers hide it.
  return place, inside & (top_layer(scene, affine, place) <= layer)
