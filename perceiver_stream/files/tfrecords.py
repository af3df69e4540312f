"""Reader of TFRecord files without TensorFlow: the places of records, and their bytes.

A record is its length (8 bytes), a checksum of the length (4), its bytes, and their checksum (4), which is
not compared: it would take longer in Python than decoding.

Source: the documentation of TFRecord.
"""

import pathlib
import struct
from typing import BinaryIO, NamedTuple

from perceiver_stream.files import limits


class Place(NamedTuple):
  """The place of a record in its file.

  Attributes:
    offset: Of its first byte.
    size: Number of its bytes.
  """

  offset: int
  size: int


def places(path: pathlib.Path) -> list[Place]:
  """Returns the places of all records; reads their headers only.

  Raises:
    ValueError: It is no TFRecord file, or cut off; names the record.
    RefusedError: It is no regular file, has far too many records, or too large ones.
  """
  if not path.is_file():
    raise limits.RefusedError(f"{path} refused: it is not a regular file.")
  found, size = [], path.stat().st_size
  with path.open("rb") as file:
    at = 0
    while at < size:
      record = _place(file.read(12), at, size, f"{path}, record {len(found)}")
      found.append(record)
      if len(found) > limits.MAX_MESSAGES:
        raise limits.RefusedError(f"{path} refused: more than {limits.MAX_MESSAGES} records.")
      at = record.offset + record.size + 4
      file.seek(at)
  return found


def read(file: BinaryIO, place: Place, most: int = limits.MAX_CHUNK_BYTES) -> bytes:
  """Returns the bytes of a record, the first `most` of them."""
  file.seek(place.offset)
  return file.read(min(place.size, most))


def _place(head: bytes, at: int, size: int, where: str) -> Place:
  if len(head) < 12:
    raise ValueError(f"{where}: the file ends in its length; it is cut off.")
  length, stated = struct.unpack("<QI", head)
  if masked_crc(head[:8]) != stated:
    raise ValueError(f"{where}: the checksum of its length is wrong; this is no TFRecord file.")
  if length > limits.MAX_CHUNK_BYTES:
    raise limits.RefusedError(f"{where} refused: {length} bytes, at most {limits.MAX_CHUNK_BYTES}.")
  if at + 12 + length + 4 > size:
    raise ValueError(f"{where}: {length} bytes at {at + 12} of {size}; the file is cut off.")
  return Place(at + 12, length)


def masked_crc(data: bytes) -> int:
  """Returns the checksum of TFRecord: CRC-32C, rotated by 15 bits, plus a constant."""
  from tensorboardX.record_writer import masked_crc32c

  return masked_crc32c(data)
