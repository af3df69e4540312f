"""Unpacking the chunks of recordings, never into more memory than the file states and limits allow.

A few kilobytes may unpack to gigabytes, and the headers of zstd and lz4 may state any size, so
output is read up to a bound and the stated size is compared afterwards.
"""

import bz2
from typing import Any

from perceiver_stream.files import limits
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.optional import require

_MAX_WINDOW = 2**27  # zstd's memory; 128 MB is what its program accepts without being asked


def unpack(data: bytes, packing: str, size: int, where: str) -> bytes:
  """Returns the contents of a chunk.

  Args:
    data: As stored.
    packing: "", "none", "zstd", "lz4" or "bz2".
    size: Bytes that it states to hold.
    where: For messages.

  Raises:
    DamagedError: It cannot be unpacked, or holds another number of bytes.
    ImportError: The library for this packing is not installed.
    RefusedError: It states more than `limits.MAX_CHUNK_BYTES`.
  """
  if size > limits.MAX_CHUNK_BYTES:
    raise limits.RefusedError(
      f"{where} refused: it states {size} bytes; the most is {limits.MAX_CHUNK_BYTES}."
    )
  unpacked = data if packing in ("", "none") else _unpacked(data, packing, size + 1, where)
  if len(unpacked) != size:
    found = f"more than {size}" if len(unpacked) > size else str(len(unpacked))
    raise DamagedError(f"{where} is damaged: it holds {found} bytes and states {size}.")
  return unpacked


def _unpacked(data: bytes, packing: str, most: int, where: str) -> bytes:
  errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, OSError, EOFError)
  try:
    if packing == "zstd":
      zstandard: Any = require("zstandard", "records")
      errors += (zstandard.ZstdError,)
      decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
      return _read_up_to(decoder.stream_reader(data), most)
    if packing == "lz4":
      return require("lz4.frame", "records").LZ4FrameDecompressor().decompress(data, most)
    if packing == "bz2":
      return bz2.BZ2Decompressor().decompress(data, most)
  except errors as error:
    raise DamagedError(
      f"{where} is damaged: {packing} data cannot be unpacked: {error}."
    ) from error
  raise DamagedError(f"{where} is packed with {packing[:20]!r}; use zstd, lz4 or bz2.")


def _read_up_to(reader: Any, most: int) -> bytes:
  """Returns at most `most` bytes: one read may give fewer than there are."""
  parts, left = [], most
  while left and (part := reader.read(min(left, 2**20))):
    parts.append(part)
    left -= len(part)
  return b"".join(parts)
