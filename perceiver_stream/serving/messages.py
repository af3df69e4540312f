"""Binary messages of pages, clients and server: a JSON header, then the bytes of arrays.

uint32, little-endian    length of the header
header                   UTF-8 JSON, an object; "arrays" lists [name, dtype, shape] in order
bytes of the arrays      C order, little-endian, one after the other, nothing between
"""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_stream.files import limits

MAX_HEADER_BYTES = 2**16
MAX_ARRAYS = 64
MAX_DIMENSIONS = 8
DTYPES = ("bool", "uint8", "int16", "int32", "float32", "float64")


class MessageError(ValueError):
  """A message that does not keep to the format."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
  """Returns a message.

  Args:
    header: JSON values; numbers that are not finite must have become None before.
    arrays: By name, of `DTYPES`.

  Raises:
    ValueError: The dtype of an array is not one of `DTYPES`, or a number is not finite.
  """
  listed, parts = [], []
  for name, value in arrays.items():
    array = np.asarray(value, order="C")
    if array.dtype.name not in DTYPES:
      raise ValueError(f"message: array {name!r} is {array.dtype}; convert it to one of {DTYPES}.")
    listed.append([name, array.dtype.name, list(array.shape)])
    parts.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
  text = json.dumps({**header, "arrays": listed}, allow_nan=False).encode()
  return b"".join((struct.pack("<I", len(text)), text, *parts))


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns the header and the arrays of a message from anybody; the arrays are read-only.

  Raises:
    MessageError: It is none.
  """
  length = struct.unpack("<I", message[:4])[0] if len(message) >= 4 else 0
  if not 2 <= length <= min(MAX_HEADER_BYTES, len(message) - 4):
    raise MessageError(
      f"message: {len(message)} bytes with a header of {length}; expected 2 to {MAX_HEADER_BYTES} "
      f"bytes of JSON after a little-endian uint32 with their number."
    )
  header = parse_object(message[4 : 4 + length])
  listed = header.pop("arrays", [])
  if not isinstance(listed, list) or len(listed) > MAX_ARRAYS:
    raise MessageError(f"message: 'arrays' must be a list of at most {MAX_ARRAYS}.")
  arrays, at = {}, 4 + length
  for entry in listed:
    name, dtype, shape = _entry(entry)
    count = math.prod(shape)
    end = at + count * dtype.itemsize
    if end > len(message):
      raise MessageError(
        f"message: array {name!r} {list(shape)} ends at byte {end} of {len(message)}; send all of it."
      )
    try:
      arrays[name] = np.frombuffer(message, dtype, count, at).reshape(shape)
    except ValueError as error:  # no bytes, and dimensions whose product NumPy cannot hold
      raise MessageError(
        f"message: array {name!r} {list(shape)}: {error}; send it flat."
      ) from error
    at = end
  if at != len(message):
    raise MessageError(f"message: {len(message) - at} bytes are left after the arrays.")
  return header, arrays


def parse_object(text: bytes | str) -> dict[str, Any]:
  """Returns a JSON object from anybody; raises MessageError."""
  try:
    decoded = text.decode() if isinstance(text, bytes) else text
    if len(decoded) > MAX_HEADER_BYTES:
      raise ValueError(f"longer than {MAX_HEADER_BYTES} characters")
    value = limits.parse_json(decoded, "message", most=4096)
  except ValueError as error:
    raise MessageError(f"message: no JSON: {error}") from error
  if not isinstance(value, dict):
    raise MessageError(f"message: a JSON {type(value).__name__}; expected an object.")
  return value


def _entry(entry: Any) -> tuple[str, np.dtype, tuple[int, ...]]:
  """Returns name, dtype and shape of a listed array."""
  good = isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)
  if not good or entry[1] not in DTYPES or not _is_shape(entry[2]):
    raise MessageError(
      f"message: {str(entry)[:80]} in 'arrays'; expected [name, dtype, shape] with a dtype of {DTYPES}."
    )
  return entry[0], np.dtype(entry[1]).newbyteorder("<"), tuple(entry[2])


def _is_shape(value: Any) -> bool:
  return (
    isinstance(value, list)
    and len(value) <= MAX_DIMENSIONS
    and all(type(n) is int and 0 <= n < 2**31 for n in value)
  )
