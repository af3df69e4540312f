"""Videos of tracks, token assignments, principal axes of latents, and attention.

All functions take arrays of any model and return videos, uint8 `[T, H, W, 3]`. A track or token has
one colour, given by its number, in every frame and every video.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from perceiver_stream.reporting.images import heat, segmentation_to_rgb, to_rgb
from perceiver_stream.utils.opencv import opencv

TRAIL = 12  # ticks
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_OUTLINED = 3.0  # pixels; a line around smaller discs would hide their colour
_SPREAD = (0.02, 0.98)  # of the values along an axis fill the range of a colour

Film = UInt8[np.ndarray, "T H W 3"]


def colours_of(count: int) -> UInt8[np.ndarray, "n 3"]:
  """Returns the colours of tracks or tokens 0 to `count` - 1, neighbours far apart."""
  return segmentation_to_rgb(np.arange(1, count + 1))


def draw_tracks(
  frames: UInt8[np.ndarray, "T H W 3"],
  tracks: Float[np.ndarray, "N P 2"],
  visible: Bool[np.ndarray, "N P"],
  *,
  trail: int = TRAIL,
  zoom: int = 1,
) -> UInt8[np.ndarray, "T h w 3"]:
  """Returns frames with points on them: a disc where a point is visible, a ring where it is hidden.

  Each has a trail over the ticks in which it was visible.

  Args:
    frames: RGB.
    tracks: (x, y) in raster coordinates of the frames: the first pixel's centre is (0.5, 0.5). NaN
      is not drawn. The last T of P ticks are those of the frames; earlier ones are for trails.
    visible: Mask of the visible points.
    trail: Ticks that a trail is long; 0 is none.
    zoom: Integer enlargement of the frames, before points are drawn.
  """
  colours = colours_of(len(tracks))
  drawn = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
  late = tracks.shape[1] - len(frames)
  for number, frame in enumerate(drawn):
    past = slice(max(0, late + number - trail), late + number + 1)
    frame[:] = _marked(frame, tracks[:, past] * zoom, visible[:, past], colours)
  return drawn


def _marked(frame: np.ndarray, tracks: np.ndarray, visible: np.ndarray, colours: np.ndarray):
  """Returns a frame with points at their positions in the last tick, and trails of those before."""
  cv2 = opencv()
  known = np.asarray(np.isfinite(tracks).all(axis=-1))
  places = np.round((np.where(known[..., None], tracks, 0.0) - 0.5) * 2**_SHIFT).astype(int)
  radius = max(2.0, min(frame.shape[:2]) / 90)
  options = {"lineType": cv2.LINE_AA, "shift": _SHIFT}
  trails = frame.copy()
  joined = (known & visible)[:, 1:] & (known & visible)[:, :-1]
  for n, t in zip(*np.nonzero(joined), strict=True):
    colour, thickness = colours[n].tolist(), max(1, round(radius / 2))
    ends = places[n, t].tolist(), places[n, t + 1].tolist()
    cv2.line(trails, *ends, colour, thickness, **options)
  frame = cv2.addWeighted(trails, 0.7, frame, 0.3, 0.0)
  for n in np.flatnonzero(known[:, -1]):
    colour, at = colours[n].tolist(), places[n, -1].tolist()
    size, width = round(radius * 2**_SHIFT), max(1, round(radius / 2))
    if visible[n, -1]:
      cv2.circle(frame, at, size, colour, -1, **options)
      if radius >= _OUTLINED:
        cv2.circle(frame, at, size, (0, 0, 0), 1, **options)
    else:
      cv2.circle(frame, at, size, colour, width, **options)
  return frame


def token_map(
  attention: Float[np.ndarray, "T L h w"],
  frames: UInt8[np.ndarray, "T H W 3"],
  *,
  colours: UInt8[np.ndarray, "*t L 3"] | None = None,
  share: float = 0.65,
) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns frames tinted by the token with the most attention on each pixel.

  Args:
    attention: From each token to each cell of a regular grid over the image.
    frames: RGB; shown in grey under the colours.
    colours: Of the tokens, `[L, 3]` or at each tick; None is a fixed one for each.
    share: Opacity of the colours.
  """
  colours = colours_of(attention.shape[1]) if colours is None else colours
  owners = np.argmax(attention, axis=1)
  ticks = np.arange(len(owners))[:, None, None]
  shown = colours[owners] if colours.ndim == 2 else colours[ticks, owners]
  return _blended(frames, shown, share)


def attention_heat(
  attention: Float[np.ndarray, "T L h w"],
  frames: UInt8[np.ndarray, "T H W 3"],
  tokens: Sequence[int] | None = None,
  *,
  share: float = 0.65,
) -> UInt8[np.ndarray, "T H W2 3"]:
  """Returns attention of tokens as heat maps on the frames, one token next to the other.

  Each token has one scale over the whole video, from 0 to its maximum.

  Args:
    attention: From each token to each cell of a regular grid over the image.
    frames: RGB; shown in grey under the heat map.
    tokens: Numbers of the tokens to show; None takes the four with the highest maximum.
    share: Opacity of the heat map.

  Raises:
    ValueError: There is no such token.
  """
  count = attention.shape[1]
  if tokens is None:
    tokens = [int(n) for n in np.argsort(-attention.max(axis=(0, 2, 3)), kind="stable")[:4]]
  if not tokens or not all(0 <= token < count for token in tokens):
    raise ValueError(f"attention_heat: tokens {list(tokens)}; give some of 0 to {count - 1}.")
  films = []
  for token in tokens:
    one = attention[:, token]
    films.append(_blended(frames, heat(one, 0.0, float(one.max())), share))
  return np.concatenate(films, axis=2)


class Axes(NamedTuple):
  """First three principal axes of a set of vectors, with the range that is shown as colour.

  Attributes:
    mean: Mean of the vectors.
    directions: Unit vectors by explained variance; zeros where there are fewer than three.
    low: Coordinate along each axis that is shown as 0.
    high: Coordinate along each axis that is shown as 255.
  """

  mean: Float[np.ndarray, " D"]
  directions: Float[np.ndarray, "D 3"]
  low: Float[np.ndarray, " 3"]
  high: Float[np.ndarray, " 3"]


def principal_axes(values: Float[np.ndarray, "*n D"]) -> Axes:
  """Returns the axes of all vectors, of a whole video so that its colours keep their meaning."""
  flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
  mean = flat.mean(axis=0)
  _, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean))  # least first
  directions = np.zeros((len(mean), 3))
  directions[:, : len(mean)] = vectors[:, ::-1][:, :3]
  strongest = np.argmax(np.abs(directions), axis=0)
  directions *= np.where(directions[strongest, np.arange(3)] < 0, -1.0, 1.0)  # one of two signs
  low, high = np.quantile((flat - mean) @ directions, _SPREAD, axis=0)
  return Axes(mean, directions, low, high)


def pca_to_rgb(
  values: Float[np.ndarray, "*n D"], axes: Axes | None = None
) -> UInt8[np.ndarray, "*n 3"]:
  """Returns each vector as a colour: its coordinates along the axes are red, green and blue.

  Args:
    values: Latents or features.
    axes: Of another video, so that colours mean the same in both; None takes those of `values`.
  """
  axes = principal_axes(values) if axes is None else axes
  along = (values - axes.mean) @ axes.directions
  return to_rgb((along - axes.low) / np.maximum(axes.high - axes.low, 1e-9))


def latent_film(
  latents: Float[np.ndarray, "T L D"],
  grid: tuple[int, int] | None = None,
  *,
  cell: int = 16,
  axes: Axes | None = None,
) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns a video of latents as squares in the colours of their principal axes, row by row.

  Args:
    latents: Of each tick.
    grid: Rows and columns; None is about a square. Unused squares are black.
    cell: Side of a square, pixels.
    axes: See `pca_to_rgb`.

  Raises:
    ValueError: The grid has too few squares.
  """
  ticks, count, _ = latents.shape
  side = int(np.ceil(np.sqrt(count)))
  rows, columns = grid or (-(-count // side), side)
  if rows * columns < count:
    raise ValueError(f"latent_film: {count} latents do not fit in a grid of {rows} x {columns}.")
  squares = np.zeros((ticks, rows * columns, 3), np.uint8)
  squares[:, :count] = pca_to_rgb(latents, axes)
  return squares.reshape(ticks, rows, columns, 3).repeat(cell, axis=1).repeat(cell, axis=2)


def latent_strip(
  latents: Float[np.ndarray, "T L D"], *, cell: int = 4, axes: Axes | None = None
) -> UInt8[np.ndarray, "H W 3"]:
  """Returns one image of latents over time: a row per latent, time to the right."""
  colours = pca_to_rgb(latents, axes).swapaxes(0, 1)
  return colours.repeat(cell, axis=0).repeat(cell, axis=1)


def feature_film(
  features: Float[np.ndarray, "T h w C"], size: tuple[int, int], *, axes: Axes | None = None
) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns feature maps in the colours of their principal axes, resized to `size` (H, W)."""
  return _resized(pca_to_rgb(features, axes), size)


def _blended(frames: np.ndarray, colours: np.ndarray, share: float) -> np.ndarray:
  """Returns colours of grid cells over the frames in grey."""
  grey = frames.astype(np.float32).mean(axis=-1, keepdims=True)
  over = share * _resized(colours, frames.shape[1:3]) + (1 - share) * grey
  return np.round(over).astype(np.uint8)


def _resized(places: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
  """Returns a map at the size of the image: each pixel takes the cell that contains its centre."""
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(int)
    for new, old in zip(size, places.shape[1:3], strict=True)
  )
  return places[:, rows][:, :, columns]
