"""Clips with exact tracks: windows that move over photographs of scikit-image."""

import pathlib

import cv2
import numpy as np

from perceiver_stream.evaluation import clips

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SCALE = 2.5  # shorter side of a photograph, in sides of a clip
REACH = 0.45  # largest distance of the window from the middle, in sides of a clip


def photographs() -> list[np.ndarray]:
  """Returns the photographs, uint8 `[H, W, 3]`, RGB.

  Raises:
    ImportError: scikit-image is not installed; the message has the command.
  """
  try:
    import skimage.data
  except ImportError as error:
    raise ImportError(
      f"moved photographs come with scikit-image ({error}); pip install 'perceiver_stream[eval]'"
    ) from error
  folder = pathlib.Path(skimage.data.__file__).parent
  return [cv2.imread(str(folder / name))[..., ::-1] for name in PHOTOGRAPHS]


def path(ticks: int, side: int, rng: np.random.Generator, speed: float = 1.0) -> np.ndarray:
  """Returns the mapping of clip pixels to the photograph, affine `[ticks, 2, 3]`, centre to centre.

  The window sways by 1 to 3 pixels a tick at most on each axis, in an image of 64, turns by up to
  15 degrees and grows and shrinks by up to 8 %; `speed` is a factor on all of these rates.
  """
  rates, phases = speed * rng.uniform(0.035, 0.1, 4), rng.uniform(0, 2 * np.pi, 4)
  x, y, turn, size = np.sin(np.arange(ticks)[:, None] * rates + phases).T
  angle, scale = 0.26 * turn, 1 + 0.08 * size
  cos, sin = scale * np.cos(angle), scale * np.sin(angle)
  rows = [[cos, -sin, REACH * side * x], [sin, cos, REACH * side * y]]
  return np.moveaxis(np.array(rows), -1, 0)


def moved(
  photo: np.ndarray, ticks: int, side: int, points: int, seed: int, speed: float = 1.0
) -> clips.Clip:
  """Returns a clip of a window that moves over a photograph, with points on it."""
  rng = np.random.default_rng(seed)
  ratio = SCALE * side / min(photo.shape[:2])
  photo = cv2.resize(photo, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
  middle = np.array([photo.shape[1], photo.shape[0]]) / 2
  to_photo = path(ticks, side, rng, speed)
  start = rng.uniform(0, side, (points, 2)) - side / 2
  at = start @ to_photo[0, :, :2].T + to_photo[0, :, 2]  # from the photograph's middle
  frames, tracks = [], []
  for affine in to_photo:
    turn, shift = affine[:, :2], affine[:, 2]
    corner = middle + shift - turn @ np.full(2, side / 2)
    raster = np.concatenate([turn, (corner + turn @ [0.5, 0.5] - 0.5)[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    frames.append(cv2.warpAffine(photo, raster, (side, side), flags=flags))
    tracks.append((at - shift) @ np.linalg.inv(turn).T + side / 2)
  found = np.stack(tracks, axis=1)
  return clips.Clip(np.stack(frames), found, ~((found >= 0) & (found < side)).all(axis=-1))


def held_out(
  num: int, ticks: int, side: int, num_points: int, speed: float = 1.0
) -> list[clips.Clip]:
  """Returns `num` clips, of each photograph in turn."""
  found = photographs()
  each = [found[i % len(found)] for i in range(num)]
  return [moved(x, ticks, side, num_points, seed=i, speed=speed) for i, x in enumerate(each)]
