"""Photos in tiles, as phones store them (HEIC, AVIF): FFmpeg gives each tile as a track of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.streams import heif
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.margins import margins_of_aperture
from perceiver_stream.utils.paths import user_path


class Grid(NamedTuple):
  """A photo in tiles.

  Attributes:
    height: Of the photo as stored, rows; tiles may stick out.
    width: Columns.
    tiles: Their tracks, in rows from the top left.
    changes: Operations on the photo as stored: (kind, contents) of boxes of `_CHANGES`.
  """

  height: int
  width: int
  tiles: list[Any]
  changes: list[tuple[bytes, bytes]]


def main_grid(container: Any, path: str) -> Grid | None:
  """Returns the photo of an open file that is shown, if it is one in tiles.

  Raises:
    DamagedError: It is, and its tiles are not all there; or nothing that is there is the photo.
  """
  if container.format.name.split(",")[0] != "mov":
    return None
  tracks = {s.id: s for s in container.streams.video}
  try:
    with user_path(path).open("rb") as file:
      about = heif.describe(file)
    return None if about is None or about.primary in tracks else _grid(about, tracks)
  except ValueError as error:
    raise DamagedError(
      f"{path} is a photo in tiles, and they cannot be put together: {error}; save it as JPEG."
    ) from error


def _grid(about: heif.Description, tracks: dict[int, Any]) -> Grid:
  parts = about.parts.get(about.primary, [])
  properties = about.properties.get(about.primary, [])
  sizes = [data for kind, data in properties if kind == b"ispe"]
  tiles = [tracks[part] for part in parts if part in tracks]
  if not tiles or len(tiles) < len(parts) or not sizes:
    raise ValueError(f"{len(tiles)} of {len(parts)} are there")
  width, height = int.from_bytes(sizes[0][4:8], "big"), int.from_bytes(sizes[0][8:12], "big")
  tile = tiles[0].codec_context
  expected = -(-width // tile.width) * -(-height // tile.height)
  if len(tiles) != expected:  # images laid over one another, for one
    raise ValueError(f"{len(tiles)} are no grid of {width} x {height} pixels")
  return Grid(height, width, tiles, [p for p in properties if p[0] in _CHANGES and p[1]])


def whole_photo(container: Any, track: Any, path: str) -> av.VideoFrame | None:
  """Returns the photo of which a track is a tile, upright, RGB; None if it is no tile.

  Raises:
    DamagedError: A tile cannot be decoded, or the photo has too many pixels.
  """
  grid = main_grid(container, path)
  if grid is None or track not in grid.tiles:
    return None
  try:
    limits.check_image_size(grid.height, grid.width, path)
    frames = _decoded(container, grid.tiles)
  except (av.error.FFmpegError, ValueError) as error:
    raise DamagedError(f"{path}, a photo in tiles, cannot be decoded: {error}") from error
  photo = _put_together(frames, grid.height, grid.width)
  for kind, data in grid.changes:
    photo = _CHANGES[kind](photo, data)
  return av.VideoFrame.from_ndarray(np.ascontiguousarray(photo), format="rgb24")


def _decoded(container: Any, tiles: list[Any]) -> list[av.VideoFrame]:
  """Returns the frame of each tile, all of one size."""
  frames = {}
  for tile in tiles:
    tile.thread_type = "NONE"
  for packet in container.demux(tiles):
    for frame in packet.decode():
      frames[packet.stream.index] = frame
  missing = [number for number, tile in enumerate(tiles) if tile.index not in frames]
  sizes = {(frame.height, frame.width) for frame in frames.values()}
  if missing or len(sizes) > 1:
    raise ValueError(f"of {len(tiles)} tiles, {missing} are missing, and the others are {sizes}")
  return [frames[tile.index] for tile in tiles]


def _put_together(tiles: list[av.VideoFrame], height: int, width: int) -> np.ndarray:
  photo = np.zeros((height, width, 3), np.uint8)
  columns = -(-width // tiles[0].width)
  for number, tile in enumerate(tiles):
    top, left = number // columns * tile.height, number % columns * tile.width
    room = photo[top : top + tile.height, left : left + tile.width]
    room[:] = tile.to_ndarray(format="rgb24")[: room.shape[0], : room.shape[1]]
  return photo


def _cut(photo: np.ndarray, aperture: bytes) -> np.ndarray:
  height, width = photo.shape[:2]
  margins = margins_of_aperture(aperture, width, height)
  return photo[margins.top : height - margins.bottom, margins.left : width - margins.right]


_CHANGES: dict[bytes, Callable[[np.ndarray, bytes], np.ndarray]] = {
  b"clap": _cut,
  b"irot": lambda photo, data: np.rot90(photo, data[0] & 3),
  b"imir": lambda photo, data: photo[:, ::-1] if data[0] & 1 else photo[::-1],
}
