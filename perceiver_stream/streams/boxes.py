"""The boxes of MP4, MOV and HEIF files (ISO/IEC 14496-12): their positions, without reading them."""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

_MOST = 100_000  # boxes in one; none has so many that has to be read


class Box(NamedTuple):
  """A part of a file.

  Attributes:
    kind: Its four letters.
    start: Of its contents, bytes from the start of the file.
    end: Of its contents.
  """

  kind: bytes
  start: int
  end: int

  def inside(self, file: io.BufferedIOBase, skip: int = 0) -> Iterator["Box"]:
    """Yields the boxes in this one, after `skip` bytes; it ends where they make no sense."""
    start = self.start + skip
    for _ in range(_MOST):
      if start + 8 > self.end:
        return
      file.seek(start)
      head = file.read(16)
      if len(head) < 8:
        return
      size, kind = struct.unpack(">I4s", head[:8])
      length = 8
      if size == 1 and len(head) == 16:
        size, length = int.from_bytes(head[8:], "big"), 16
      end = start + size if size else self.end  # 0: the last one
      if size and size < length:
        return
      yield Box(kind, start + length, min(end, self.end))
      start = end

  def find(self, file: io.BufferedIOBase, *kinds: bytes) -> Iterator["Box"]:
    """Yields the boxes on a path of kinds below this one."""
    for box in self.inside(file):
      if box.kind == kinds[0]:
        if len(kinds) == 1:
          yield box
        else:
          yield from box.find(file, *kinds[1:])

  def read(self, file: io.BufferedIOBase, most: int) -> bytes:
    """Returns the first bytes of the contents."""
    file.seek(self.start)
    return file.read(min(most, self.end - self.start))


def whole(file: io.BufferedIOBase) -> Box:
  """Returns a file as a box."""
  return Box(b"", 0, file.seek(0, 2))
