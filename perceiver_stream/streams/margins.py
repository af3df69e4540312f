"""Margins that a container wants cut off each frame: recorders' padding, bars cropped later.

Matroska states it as PixelCrop, MP4, MOV and HEIF as a clean aperture. FFmpeg reads both, and its program
cuts; PyAV does not hand them on, so they are read from the file here.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from perceiver_stream.streams import heif
from perceiver_stream.streams.boxes import whole
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.paths import user_path

# Elements of Matroska (RFC 9559).
_SEGMENT, _CLUSTER, _TRACKS, _TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TYPE, _VIDEO = 0x83, 0xE0  # of a track
_CROPS = {0x54CC: "left", 0x54DD: "right", 0x54BB: "top", 0x54AA: "bottom"}
_SAMPLE_ENTRY_BYTES = 78  # of an image's, before the boxes in it
_MOST = 10_000  # elements of Matroska in one


class Margins(NamedTuple):
  """Columns to cut off on the left and right, rows at the top and bottom."""

  left: int = 0
  right: int = 0
  top: int = 0
  bottom: int = 0

  def inside(self, frame: Any) -> tuple[int, int]:
    """Returns the rows and columns that are left of a frame."""
    return frame.height - self.top - self.bottom, frame.width - self.left - self.right

  def filters(self) -> Iterator[str]:
    """Yields the FFmpeg filter that cuts them off, if there is something to cut."""
    if any(self):
      width, height = f"iw-{self.left + self.right}", f"ih-{self.top + self.bottom}"
      yield f"crop=w={width}:h={height}:x={self.left}:y={self.top}"


WHOLE = Margins()


def margins_of(container: Any, track: Any, path: str) -> Margins:
  """Returns the margins that an open file states for a track of images.

  FFmpeg opens no Matroska whose margins leave nothing, and does without those of such an MP4.

  Raises:
    DamagedError: A HEIF file describes its images inconsistently.
  """
  kind = container.format.name.split(",")[0]
  with user_path(path).open("rb") as file:
    if kind == "matroska":
      number = [s.index for s in container.streams.video].index(track.index)
      return _of_matroska(file, number)
    if kind != "mov":
      return WHOLE
    try:
      about = heif.describe(file)
    except ValueError as error:
      raise DamagedError(f"{path} cannot be shown: {error}.") from error
    return _of_mp4(file, track.id) if about is None else _of_heif(about, track)


def _of_matroska(file: io.BufferedIOBase, number: int) -> Margins:
  """Returns the margins of the track of images with that number."""
  end = file.seek(0, 2)
  for segment in (part for part in _elements(file, 0, end) if part[0] == _SEGMENT):
    for kind, *place in _elements(file, *segment[1:]):
      if kind == _CLUSTER:
        break
      if kind == _TRACKS:
        videos = list(_videos(file, *place))
        return videos[number] if number < len(videos) else WHOLE
  return WHOLE


def _videos(file: io.BufferedIOBase, start: int, end: int) -> Iterator[Margins]:
  for kind, *place in _elements(file, start, end):
    if kind == _TRACK:
      parts = {part[0]: part[1:] for part in _elements(file, *place)}
      if _TYPE in parts and _number(file, *parts[_TYPE]) == 1:
        video = _elements(file, *parts[_VIDEO]) if _VIDEO in parts else ()
        yield Margins(**{_CROPS[k]: _number(file, *at) for k, *at in video if k in _CROPS})


def _elements(file: io.BufferedIOBase, start: int, end: int) -> Iterator[tuple[int, int, int]]:
  """Yields the id of each EBML element (RFC 8794), and where its contents start and end."""
  for _ in range(_MOST):
    file.seek(start)
    head = file.read(12)
    id_length = 9 - head[0].bit_length() if head and head[0] else 9
    rest = head[id_length:]
    if start >= end or id_length > 4 or not rest or not rest[0]:
      return
    length = 9 - rest[0].bit_length()
    size = int.from_bytes(rest[:length], "big") & ((1 << 7 * length) - 1)
    place = start + id_length + length
    stop = end if size == (1 << 7 * length) - 1 else place + size  # all ones: unknown
    yield int.from_bytes(head[:id_length], "big"), place, min(stop, end)
    start = stop


def _number(file: io.BufferedIOBase, start: int, end: int) -> int:
  file.seek(start)
  return int.from_bytes(file.read(min(8, end - start)), "big")


def _of_mp4(file: io.BufferedIOBase, track_id: int) -> Margins:
  for track in whole(file).find(file, b"moov", b"trak"):
    heads = [head.read(file, 24) for head in track.find(file, b"tkhd")]
    if [_track_id(head) for head in heads] != [track_id]:
      continue
    for table in track.find(file, b"mdia", b"minf", b"stbl", b"stsd"):
      for entry in table.inside(file, 8):
        for clap in entry.inside(file, _SAMPLE_ENTRY_BYTES):
          if clap.kind == b"clap":
            size = struct.unpack(">24xHH", entry.read(file, 28))
            return margins_of_aperture(clap.read(file, 32), *size)
  return WHOLE


def _of_heif(about: heif.Description, track: Any) -> Margins:
  apertures = [d for kind, d in about.properties.get(track.id, []) if kind == b"clap"]
  size = track.codec_context.width, track.codec_context.height
  return margins_of_aperture(apertures[0], *size) if apertures else WHOLE


def _track_id(head: bytes) -> int:
  at = 20 if head[:1] == b"\1" else 12
  return int.from_bytes(head[at : at + 4], "big")


def margins_of_aperture(data: bytes, width: int, height: int) -> Margins:
  """Returns the margins around a clean aperture: its size, and how far it is off the middle."""
  numbers = struct.unpack(">IIIIiIiI", data.ljust(32, b"\0"))
  if not all(numbers[1::2]):
    return WHOLE
  across, down, right, low = (Fraction(*numbers[k : k + 2]) for k in (0, 2, 4, 6))
  columns, rows = _around(width, across, right), _around(height, down, low)
  return Margins(*columns, *rows) if min(*columns, *rows) >= 0 else WHOLE


def _around(length: int, inner: Fraction, offset: Fraction) -> tuple[int, int]:
  """Returns the margins around a stretch `offset` from the middle, as FFmpeg rounds them."""
  middle = Fraction(length - 1, 2) + offset
  first, last = middle - (inner - 1) / 2, middle + (inner - 1) / 2
  return int(first) if first >= 0 else -1, length - 1 - int(last)
