"""Reader of Protocol Buffers' wire format: fields by number, without a schema or generated code.

Source: "Encoding", the documentation of Protocol Buffers.
"""

import struct
from collections.abc import Iterator

Value = int | float | memoryview


def fields(data: memoryview, where: str) -> Iterator[tuple[int, Value]]:
  """Yields (number, value) of a message's fields, in order; nothing is copied.

  Whole numbers are unsigned; 4 bytes are a float, 8 bytes a double; strings and messages are views.

  Args:
    data: Of the message.
    where: Its name, for errors.

  Raises:
    ValueError: It is cut off, or no message.
  """
  at = 0
  while at < len(data):
    key, at = _varint(data, at, where)
    number, kind = key >> 3, key & 7
    if not number:
      raise ValueError(f"{where}: field 0 at byte {at}; this is no protobuf message.")
    if kind == 0:
      value, at = _varint(data, at, where)
      yield number, value
      continue
    size, at = _varint(data, at, where) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
    if size < 0 or at + size > len(data):
      raise ValueError(
        f"{where}: field {number} of kind {kind} with {size} bytes at byte {at} of {len(data)}; the "
        f"message is cut off or damaged."
      )
    piece, at = data[at : at + size], at + size
    yield number, piece if kind == 2 else struct.unpack("<d" if kind == 1 else "<f", piece)[0]


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
  value = 0
  for shift in range(0, 70, 7):
    if at >= len(data):
      break
    byte, at = data[at], at + 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
  raise ValueError(f"{where}: a number at byte {at} of {len(data)} has no end; it is damaged.")


def text(value: Value) -> str:
  """Returns a string field; bytes that are not UTF-8 are replaced."""
  return bytes(value).decode(errors="replace") if isinstance(value, memoryview) else str(value)
