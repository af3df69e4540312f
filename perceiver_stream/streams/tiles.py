"""Photos in tiles, as phones store them (HEIC, AVIF): FFmpeg gives each tile as a track of its own.

Which tracks make a photo stands in FFmpeg's description of the file alone. Its groups and their
tiles come in the same order, tiles in rows from the top left.
"""

import re
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.stream import Disposition

from perceiver_stream.files import limits
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.display import description
from perceiver_stream.utils.paths import user_path

_GROUP = re.compile(r"^Stream group #\d+:\d+\S*: Tile Grid: .*?, (\d+)x(\d+)\b.*$", re.MULTILINE)
_TURN = re.compile(r"^ +display ?matrix: rotation of (-?[\d.]+) degrees$", re.I | re.M)
_HEAD_BYTES = 2**20


class Grid(NamedTuple):
  """A photo in tiles.

  Attributes:
    height: Of the photo as stored, rows; tiles may stick out.
    width: Columns.
    turns: Quarter turns to the left, to show it upright.
    tiles: Their tracks.
  """

  height: int
  width: int
  turns: int
  tiles: list[Any]


def main_grid(container: Any, path: str) -> Grid | None:
  """Returns the photo of an open file that is shown, if it is one in tiles.

  Raises:
    DamagedError: It is, and its tiles cannot be put together.
  """
  rest = [s for s in container.streams.video if s.disposition & Disposition.dependent]
  if not rest:
    return None
  grids: list[tuple[Grid, bool]] = []
  for part in re.split(r"^  (?=Stream )", description(container), flags=re.MULTILINE):
    if group := _GROUP.match(part):
      width, height = int(group[1]), int(group[2])
      turn = _TURN.search(part)
      first = rest[0].codec_context if rest else None
      num = -(-width // first.width) * -(-height // first.height) if first else 1
      grid = Grid(height, width, round(float(turn[1]) / 90) % 4 if turn else 0, rest[:num])
      grids.append((grid, "(default)" in group[0]))
      if len(rest) < num:
        raise _puzzling(path)
      rest = rest[num:]
  if rest and grids:
    raise _puzzling(path)
  return next((grid for grid, is_main in grids if is_main), None)


def whole_photo(container: Any, track: Any, path: str) -> av.VideoFrame | None:
  """Returns the photo of which a track is a tile, upright, RGB; None if it is no tile.

  Raises:
    DamagedError: A tile cannot be decoded; the photo has too many pixels; or it is mirrored, for
      nothing says how.
  """
  grid = main_grid(container, path)
  if grid is None or track not in grid.tiles:
    return None
  with user_path(path).open("rb") as file:
    if b"imir" in file.read(_HEAD_BYTES).split(b"mdat")[0]:
      raise DamagedError(
        f"{path} is a mirrored photo in tiles, which is not read; save it as JPEG."
      )
  try:
    limits.check_image_size(grid.height, grid.width, path)
    frames = _decoded(container, grid.tiles)
  except (av.error.FFmpegError, ValueError) as error:
    raise DamagedError(f"{path}, a photo in tiles, cannot be decoded: {error}") from error
  photo = _put_together(frames, grid.height, grid.width)
  return av.VideoFrame.from_ndarray(np.rot90(photo, grid.turns).copy(), format="rgb24")


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


def _puzzling(path: str) -> DamagedError:
  return DamagedError(
    f"{path} is a photo in tiles, and which of them belong to it is not clear; save it as JPEG."
  )
