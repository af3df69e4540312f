"""Check of the unpacked sizes that an ArrayRecord file declares, before any chunk is unpacked.

A file of a few kB can contain a record of many GB. The format is Riegeli's: blocks of 2^16 bytes
with a header of 24 bytes each. The remaining bytes form chunks with a header of 40 bytes, which
states the stored and the unpacked size; the library that unpacks a chunk allocates according to
these numbers.
"""

import io
import os
import pathlib
import struct

from perceiver_stream.files import limits
from perceiver_stream.files.limits import RefusedError

_BLOCK, _BLOCK_HEADER = 2**16, 24
_ROOM = _BLOCK - _BLOCK_HEADER  # of a block
_CHUNK = struct.Struct("<8x Q 8x Q Q")  # bytes stored; kind and number of records; bytes unpacked


def check_chunks(path: str | pathlib.Path, record_bytes: int) -> None:
  """Refuses a file whose chunks unpack to more than one record and some headroom.

  Args:
    path: ArrayRecord file.
    record_bytes: Size of one record.

  Raises:
    OSError: It cannot be read.
    RefusedError: A chunk declares a larger size.
    ValueError: The chunks do not fill the file to its end.
  """
  most = limits.HEADROOM_BYTES + record_bytes
  with open(path, "rb", buffering=0) as file:
    size, at = os.fstat(file.fileno()).st_size, 0
    while at < size:
      header, stop = _read(file, at)
      if len(header) < _CHUNK.size:
        raise ValueError(f"{path} is cut off in the header of a chunk, at byte {at}.")
      stored, _, unpacked = _CHUNK.unpack(header)
      if unpacked > most:
        raise RefusedError(
          f"{path} refused: a chunk at byte {at} unpacks to {unpacked} bytes; the most is {most}."
        )
      at = _after(stop, stored)
  if at != size:
    raise ValueError(f"{path} has {size} bytes, but its chunks end at {at}.")


def _after(at: int, count: int) -> int:
  """Returns the file offset after `count` further bytes of chunks, from offset `at`.

  >>> _after(0, 0), _after(24, 10), _after(65530, 6), _after(65530, 7)
  (0, 34, 65536, 65561)
  """
  if not count:
    return at
  inside = at // _BLOCK * _ROOM + max(0, at % _BLOCK - _BLOCK_HEADER) + count
  block, rest = divmod(inside - 1, _ROOM)
  return block * _BLOCK + _BLOCK_HEADER + rest + 1


def _read(file: io.RawIOBase, at: int) -> tuple[bytes, int]:
  """Returns the header of a chunk and the offset of its end."""
  stop = _after(at, _CHUNK.size)
  start = at + _BLOCK_HEADER if at % _BLOCK == 0 else at
  file.seek(start)
  raw = file.read(stop - start) or b""
  edge = _BLOCK - start % _BLOCK  # of the next block's header, if it lies inside
  return (raw[:edge] + raw[edge + _BLOCK_HEADER :])[: _CHUNK.size], stop
