"""Textures: noise of several octaves, packed for looking up quickly."""

import numpy as np
from jaxtyping import Float, UInt8, UInt32


def noise(
  rng: np.random.Generator, size: int, finest: float, octaves: int
) -> Float[np.ndarray, "size size 3"]:
  """Returns a noise that repeats after `size`, with mean 0 and standard deviation about 1.

  Args:
    rng: Source of the noise.
    size: Rows and columns.
    finest: Size of the smallest blobs.
    octaves: Each has blobs twice as large as the one before, and twice as strong per blob.
  """
  total = np.zeros((size, size, 3), np.float32)
  power = 0.0
  for octave in range(octaves):
    cells = max(2, round(size / (finest * 2**octave)))
    strength = 1.4**octave
    # Bilinear-cosine interpolation keeps some 0.38 of the variance of the coarse values.
    total += strength * _enlarge(rng.standard_normal((cells, cells, 3), np.float32), size)
    power += 0.38 * strength**2
    if cells == 2:
      break
  return total / np.float32(np.sqrt(power))


def _enlarge(coarse: Float[np.ndarray, "n n 3"], size: int) -> Float[np.ndarray, "{size} {size} 3"]:
  cells = len(coarse)
  at = np.arange(size) * (cells / size)
  low = at.astype(int)
  part = ((1 - np.cos(np.pi * (at - low))) / 2).astype(np.float32)
  step = np.roll(coarse, -1, 0) - coarse
  rows = coarse[low] + part[:, None, None] * step[low]
  step = np.roll(rows, -1, 1) - rows
  return rows[:, low] + part[:, None] * step[:, low]


def paint(
  texture: Float[np.ndarray, "n n 3"], mean: Float[np.ndarray, " 3"], contrast: float
) -> UInt32[np.ndarray, "n n"]:
  """Returns the texture as bytes around a mean colour, the three of a texel in one number."""
  values = np.clip(mean + contrast * texture, 0, 255).astype(np.uint8)
  packed = np.zeros((*values.shape[:2], 4), np.uint8)
  packed[..., :3] = values
  return packed.view(np.uint32)[..., 0]


def litter(
  rng: np.random.Generator, texture: Float[np.ndarray, "n n 3"], num: int, largest: float
) -> None:
  """Puts plain discs, boxes and bars with soft edges on a texture, over its ends too."""
  size = len(texture)
  for _ in range(num):
    middle = rng.uniform(0, size, 2)
    half = largest * rng.uniform(0.1, 1.0, 2) ** 1.5 + 1.0
    angle, is_disc = rng.uniform(0, np.pi), rng.random() < 0.4
    reach = int(np.ceil(np.hypot(*half))) + 1
    span = np.arange(-reach, reach + 1)
    at = (np.round(middle).astype(int)[:, None] + span) % size
    x = np.cos(angle) * span + np.sin(angle) * span[:, None]
    y = np.cos(angle) * span[:, None] - np.sin(angle) * span
    far = np.maximum(np.abs(x) - half[0], np.abs(y) - half[1])
    if is_disc:
      far = np.hypot(x, y) - half.min()
    cover = np.clip(0.5 - far, 0, 1)[..., None].astype(np.float32)
    place = np.ix_(at[0], at[1])
    colour = rng.uniform(-2.5, 2.5, 3).astype(np.float32)
    texture[place] += 0.85 * cover * (colour - texture[place])


def look_up(
  texture: UInt32[np.ndarray, "n n"],
  x: Float[np.ndarray, "h w"],
  y: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 4"]:
  """Returns the texture between its texels, linearly; it repeats, so its size is a power of two.

  Args:
    texture: From `paint`; its first texel's centre is at (0, 0).
    x: Columns.
    y: Rows.
  """
  size = len(texture)
  left, top = np.floor(x), np.floor(y)
  part_x, part_y = (x - left)[..., None], (y - top)[..., None]
  columns, rows = left.astype(np.int32), top.astype(np.int32)
  right, columns = (columns + 1) & (size - 1), columns & (size - 1)
  bottom, rows = ((rows + 1) & (size - 1)) * size, (rows & (size - 1)) * size
  upper = _mix(texture, rows + columns, rows + right, part_x)
  lower = _mix(texture, bottom + columns, bottom + right, part_x)
  lower -= upper
  lower *= part_y
  upper += lower
  return upper


def _mix(
  texture: np.ndarray, one: np.ndarray, other: np.ndarray, part: np.ndarray
) -> Float[np.ndarray, "h w 4"]:
  first = _bytes(texture, one).astype(np.float32)
  second = np.subtract(_bytes(texture, other), first, dtype=np.float32)
  second *= part
  first += second
  return first


def _bytes(texture: np.ndarray, index: np.ndarray) -> UInt8[np.ndarray, "h w 4"]:
  return texture.reshape(-1).take(index)[..., None].view(np.uint8)
