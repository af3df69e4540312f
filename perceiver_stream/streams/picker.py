"""Conversion of decoded frames to images of one size, as players show them.

A decoder gives frames as stored. The corrections that the ffmpeg program and players make before
showing them are made here, by FFmpeg's own filters: cut off the container's padding, undo
interlacing, scale pixels that are not square by the shape that each frame states, turn and mirror.
"""

import re
import struct
from fractions import Fraction

import av
import av.error
import numpy as np
from av.filter import Graph

from perceiver_stream.files.limits import check_image_size
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.margins import WHOLE, Margins

_FEWEST = 3  # rows and columns that can be deinterlaced


class Picker:
  """Converts frames to images of one size: scaled by averaging, upright, cropped or squashed to fit."""

  def __init__(self, height: int, width: int, crop: str, margins: Margins = WHOLE):
    """Makes one for frames of a file.

    Args:
      height: Of the images, rows.
      width: Columns.
      crop: `"centre"` keeps the aspect ratio and crops; `"squash"` keeps the whole image.
      margins: Rows and columns that the container wants cut off each frame.
    """
    self._size, self._crop, self._margins = (height, width), crop, margins
    self._graph, self._form = Graph(), ()
    self._flips: dict[int, tuple[bool, bool]] = {}  # by rotation, as frames state both

  def __call__(self, frame: av.VideoFrame, aspect: Fraction | int = 1) -> np.ndarray:
    """Returns uint8 `[H, W, 3]`, read-only.

    Args:
      frame: As decoded.
      aspect: Width of its pixels over their height.

    Raises:
      DamagedError: FFmpeg cannot convert the frame.
    """
    height, width = self._size[::-1] if is_turned(frame) else self._size
    try:
      scaled = self._scaled(frame, *self._full_size(frame, height, width, aspect))
    except (av.error.FFmpegError, ValueError) as error:
      raise DamagedError(
        f"a frame of {frame.width} x {frame.height} pixels ({frame.format.name}) cannot be "
        f"converted: {error}"
      ) from error
    top, left = (scaled.height - height) // 2, (scaled.width - width) // 2
    picture = scaled.to_ndarray()[top : top + height, left : left + width]
    picture = np.ascontiguousarray(self._upright(picture, scaled, frame.rotation))
    picture.flags.writeable = False
    return picture

  def _full_size(
    self, frame: av.VideoFrame, height: int, width: int, aspect: Fraction | int
  ) -> tuple[int, int]:
    """Returns rows and columns before the sides are cut off."""
    if self._crop == "squash":
      return height, width
    rows, columns = self._margins.inside(frame)
    natural_width = columns * aspect
    scale = max(Fraction(height, rows), width / Fraction(natural_width))
    full = max(height, round(rows * scale)), max(width, round(natural_width * scale))
    check_image_size(*full, f"scaled to cover {height} x {width},")
    return full

  def _scaled(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
    if frame.interlaced_frame and min(frame.width, frame.height) >= _FEWEST:
      # Alone: the filter would mix in the frames around it, of which one is still to come.
      graph = self._filters(frame, height, width, "yadif=deint=interlaced:threads=1")
      graph.vpush(frame)
      graph.vpush(None)
      return graph.vpull()
    form = (frame.width, frame.height, frame.format.name, height, width)
    if form != self._form:
      self._graph, self._form = self._filters(frame, height, width), form
    self._graph.vpush(frame)
    return self._graph.vpull()

  def _filters(self, frame: av.VideoFrame, height: int, width: int, *first: str) -> Graph:
    """Returns FFmpeg's filters for frames of one form."""
    graph = Graph()
    stages = (
      _source(frame),
      *first,
      *self._margins.filters(),
      f"scale=w={width}:h={height}:flags=area:threads=1",
      "format=rgb24",
      "buffersink",
    )
    graph.link_nodes(*(graph.add(*stage.split("=", 1)) for stage in stages))
    graph.configure()
    return graph

  def _upright(self, picture: np.ndarray, scaled: av.VideoFrame, rotation: int) -> np.ndarray:
    """Undoes a turn by quarters and mirroring, as the display matrix states them."""
    if rotation not in self._flips:
      self._flips[rotation] = _flips(scaled)
    rows, columns = self._flips[rotation]
    if round(rotation / 90) % 2:
      picture = picture.swapaxes(0, 1)
    return picture[:: -1 if rows else 1, :: -1 if columns else 1]


def is_turned(frame: av.VideoFrame) -> bool:
  """Returns True if rows of a frame are shown as columns."""
  return round(frame.rotation / 90) % 2 == 1


def shown_size(
  frame: av.VideoFrame, margins: Margins = WHOLE, aspect: Fraction | int = 1
) -> tuple[int, int]:
  """Returns rows and columns of a frame as it is shown, in square pixels."""
  height, width = margins.inside(frame)
  width = max(1, round(width * aspect))
  return (width, height) if is_turned(frame) else (height, width)


def _source(frame: av.VideoFrame) -> str:
  size = f"{frame.width}x{frame.height}"
  return f"buffer=video_size={size}:pix_fmt={frame.format.name}:time_base=1/1000:pixel_aspect=1/1"


def _flips(frame: av.VideoFrame) -> tuple[bool, bool]:
  """Returns True for rows, and for columns, that are mirrored after a turn that only swaps them."""
  matrix = _display_matrix(frame)
  if matrix is None:
    return False, False
  a, b, _, c, d = matrix[:5]  # x to the right becomes (a, b), y down (c, d)
  return (b < 0, c < 0) if is_turned(frame) else (d < 0, a < 0)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
  try:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", bytes(data))
  except ValueError as error:  # FFmpeg has kinds of side data that PyAV has no name for
    unknown = re.match(r"(\d+) is not a valid Type", str(error))
    if unknown is None:
      raise
    return _display_matrix(_without_side_data(frame, unknown[1]))


def _without_side_data(frame: av.VideoFrame, kind: str) -> av.VideoFrame:
  graph = Graph()
  stages = (_source(frame), f"sidedata=mode=delete:type={kind}", "buffersink")
  graph.link_nodes(*(graph.add(*stage.split("=", 1)) for stage in stages))
  graph.configure()
  graph.vpush(frame)
  return graph.vpull()
