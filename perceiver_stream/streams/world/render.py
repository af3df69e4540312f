"""Rendering of a scene: images, and ground truth at every pixel's centre."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8

from perceiver_stream.streams.world import scene as scenes
from perceiver_stream.streams.world import textures


class Layer(NamedTuple):
  """A layer in the image: its bounding box, and the layer coordinates of its pixels.

  Attributes:
    index: 0 is the ground.
    box: Rows and columns of the image.
    x: Places in the layer's coordinates.
    y: The same.
    cover: Share of each pixel that is covered; at least a half where its centre is.
  """

  index: int
  box: tuple[slice, slice]
  x: Float[np.ndarray, "h w"]
  y: Float[np.ndarray, "h w"]
  cover: Float[np.ndarray, "h w"]


def layers(
  scene: scenes.Scene, affine: Float[np.ndarray, "K 2 3"], size: tuple[int, int]
) -> list[Layer]:
  """Returns the layers that are in the image, the farthest first."""
  inverse = scenes.invert(affine)
  scale = np.sqrt(np.abs(np.linalg.det(affine[:, :, :2])))
  found = []
  for k in range(len(affine)):
    box = (slice(0, size[0]), slice(0, size[1]))
    if k:
      reach = scene.radius[k - 1] * scale[k] + 1.0
      box = (_span(affine[k, 1, 2], reach, size[0]), _span(affine[k, 0, 2], reach, size[1]))
    if box[0].start >= box[0].stop or box[1].start >= box[1].stop:
      continue
    x, y = _grid(inverse[k], box)
    cover = np.ones((1, 1), np.float32)
    if k:
      gauge = scene.gauge(k, x, y)
      width = scale[k] * np.hypot(x, y) / np.maximum(gauge, 1e-6)  # pixels per unit of the gauge
      cover = np.clip((1 - gauge) * width + 0.5, 0, 1).astype(np.float32)
      cover[gauge <= 1] = np.maximum(cover[gauge <= 1], 0.5)
      cover[gauge > 1] = np.minimum(cover[gauge > 1], 0.499)
    found.append(Layer(k, box, x, y, cover))
  return found


def _span(middle: float, reach: float, limit: int) -> slice:
  first, last = int(np.floor(middle - reach)), int(np.ceil(middle + reach))
  return slice(min(max(first, 0), limit), min(max(last, 0), limit))


def _grid(
  affine: Float[np.ndarray, "2 3"], box: tuple[slice, slice]
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
  """Returns the map of the box's pixel centres."""
  rows = np.arange(box[0].start, box[0].stop) + 0.5
  columns = np.arange(box[1].start, box[1].stop) + 0.5
  x, y = (a * columns + (b * rows + c)[:, None] for a, b, c in affine)
  return x, y


def pixels(
  scene: scenes.Scene, visible: list[Layer], size: tuple[int, int]
) -> Float[np.ndarray, "H W 4"]:
  """Returns the colours, antialiased at the outlines; the fourth channel is of no use."""
  picture = np.empty((*size, 4), np.float32)
  for layer in visible:
    colour = textures.look_up(scene.textures[layer.index], layer.x, layer.y)
    under = picture[layer.box]
    if layer.index:
      colour -= under
      colour *= layer.cover[..., None]
      under += colour
    else:
      under[...] = colour
  return picture


def develop(
  picture: Float[np.ndarray, "H W 4"], gain: float, noise: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
  """Returns the sensor's reading of colours: light, noise, whole numbers."""
  exposed = picture[..., :3] * np.float32(gain)
  if noise:
    exposed += np.float32(noise) * rng.standard_normal(exposed.shape, np.float32)
  exposed += 0.5
  return np.clip(exposed, 0, 255, out=exposed).astype(np.uint8)


def segmentation(visible: list[Layer], size: tuple[int, int]) -> Int32[np.ndarray, "H W"]:
  """Returns the layer at each pixel's centre."""
  label = np.zeros(size, np.int32)
  for layer in visible[1:]:
    np.copyto(label[layer.box], layer.index, where=layer.cover >= 0.5)
  return label


def depth(scene: scenes.Scene, label: Int32[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
  """Returns metres."""
  return scene.depth.astype(np.float32)[label]


def flow(
  visible: list[Layer],
  now: Float[np.ndarray, "K 2 3"],
  other: Float[np.ndarray, "K 2 3"],
  size: tuple[int, int],
) -> Float[np.ndarray, "H W 2"]:
  """Returns the displacement of the surface at each pixel's centre until another time."""
  move = scenes.chain(other, scenes.invert(now)) - np.eye(2, 3)
  motion = np.empty((*size, 2), np.float32)
  for layer in visible:
    for axis, value in enumerate(_grid(move[layer.index], layer.box)):
      target = motion[layer.box][..., axis]
      np.copyto(target, value, casting="unsafe", where=layer.cover >= 0.5)
  return motion
