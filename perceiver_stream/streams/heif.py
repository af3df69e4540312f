"""Descriptions of images in the boxes of a HEIF file (HEIC, AVIF; ISO/IEC 23008-12)."""

import io
import itertools
import struct
from typing import NamedTuple

from perceiver_stream.streams.boxes import Box, whole

_OF_VIDEOS = (b"moov", b"moof")
_MOST_BYTES = 2**20  # of one box


class Description(NamedTuple):
  """The images of a file, by their numbers.

  Attributes:
    primary: The one to show.
    parts: The images of which another is made, in their order.
    properties: (kind, contents) of an image's property boxes, in order.
  """

  primary: int
  parts: dict[int, list[int]]
  properties: dict[int, list[tuple[bytes, bytes]]]


def describe(file: io.BufferedIOBase) -> Description | None:
  """Returns the descriptions in a file; None if it is no HEIF, or is a video too.

  Raises:
    ValueError: Its boxes are damaged.
  """
  before = itertools.takewhile(lambda box: box.kind not in _OF_VIDEOS, whole(file).inside(file))
  meta = next((box for box in before if box.kind == b"meta"), None)
  boxes = {box.kind: box for box in meta.inside(file, 4)} if meta else {}
  if b"pitm" not in boxes:
    return None
  try:
    primary = boxes[b"pitm"].read(file, 8)
    number = int.from_bytes(primary[4 : 8 if primary[0] else 6], "big")
    parts = _parts(file, boxes[b"iref"]) if b"iref" in boxes else {}
    return Description(number, parts, _properties(file, boxes[b"iprp"]))
  except (struct.error, IndexError, KeyError) as error:
    raise ValueError(f"the description of its images is damaged ({error!r})") from error


def _parts(file: io.BufferedIOBase, box: Box) -> dict[int, list[int]]:
  code, length = ("I", 4) if box.read(file, 1) == b"\1" else ("H", 2)
  found = {}
  for link in box.inside(file, 4):
    if link.kind == b"dimg":
      data = link.read(file, _MOST_BYTES)
      (number,) = struct.unpack_from(">H", data, length)
      item, *parts = struct.unpack_from(f">{code}2x{number}{code}", data)
      found[item] = parts
  return found


def _properties(file: io.BufferedIOBase, box: Box) -> dict[int, list[tuple[bytes, bytes]]]:
  boxes = {part.kind: part for part in box.inside(file)}
  held = [(p.kind, p.read(file, 32)) for p in boxes[b"ipco"].inside(file)]
  data = boxes[b"ipma"].read(file, _MOST_BYTES)
  item_code, bits = ("I" if data[0] else "H"), (15 if data[3] & 1 else 7)
  (count,), at, found = struct.unpack_from(">I", data, 4), 8, {}
  for _ in range(count):
    item, number = struct.unpack_from(f">{item_code}B", data, at)
    at += struct.calcsize(f">{item_code}B")
    code = f">{number}{'H' if bits == 15 else 'B'}"
    places = [place & ((1 << bits) - 1) for place in struct.unpack_from(code, data, at)]
    at += struct.calcsize(code)
    found[item] = [held[place - 1] for place in places if place]
  return found
