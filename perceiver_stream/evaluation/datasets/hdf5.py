"""Reader of arrays in untrusted HDF5 files: entry by entry of the first axis, in bounded memory.

HDF5 follows links to other files, loads plugins for filters, and inflates a chunk to whatever size it
has; a chunk that is shorter than declared it completes by whatever was in memory. Here arrays lie in the file
itself, filters are its own three, and every chunk must have its declared size, inflated if it is
deflated, before HDF5 reads it.
"""

import itertools
import math
import pathlib
import zlib
from typing import Any

import numpy as np

from perceiver_stream.files import limits

_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3  # other filters load code
_CHECKSUM_BYTES = 4
MAX_CHUNKS = 2**16  # of one entry; each is checked before it is read


class Array:
  """An array of numbers on disk, `[N, ..., H, W]`; `array[i]` reads one entry.

  Attributes:
    shape: Of the array.
  """

  def __init__(self, h5py: Any, file: Any, name: str, rank: int, place: pathlib.Path):
    """Opens an array.

    Args:
      h5py: The module.
      file: The open file.
      name: Of the array.
      rank: Number of its axes.
      place: Path of the file, for messages.

    Raises:
      RefusedError: It lies in another file, needs a plugin, or an image or chunk is too large.
      ValueError: It is not there, or has another rank or no numbers.
    """
    self._found, self._where = _dataset(h5py, file, name, rank, place), f"{place} refused: {name!r}"
    self.shape: tuple[int, ...] = self._found.shape
    plan = self._found.id.get_create_plist()
    self._filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    others = set(self._filters) - {_DEFLATE, _SHUFFLE, _CHECKSUM}
    if self._found.external or self._found.is_virtual or others:
      raise limits.RefusedError(
        f"{self._where} is stored in other files, or with filters {sorted(self._filters)}."
      )
    if len(set(self._filters)) < len(self._filters):
      raise limits.RefusedError(f"{self._where} has a filter twice: {self._filters}.")
    limits.check_image_size(self.shape[-2], self.shape[-1], f"{place}, {name}")
    chunks = self._found.chunks or (1,)
    self._chunk_bytes = int(np.prod(chunks, dtype=object)) * self._found.dtype.itemsize
    if self._chunk_bytes > limits.MAX_CHUNK_BYTES:
      raise limits.RefusedError(
        f"{place} refused: chunks of {name!r} have {self._chunk_bytes} bytes; the most is "
        f"{limits.MAX_CHUNK_BYTES}."
      )
    self._chunks = [
      range(0, size, step) for size, step in zip(self.shape[1:], chunks[1:], strict=False)
    ]
    if (number := math.prod(map(len, self._chunks))) > MAX_CHUNKS:
      raise limits.RefusedError(
        f"{place} refused: an entry of {name!r} has {number} chunks; the most is {MAX_CHUNKS}."
      )
    self._checked = -1  # first entry of the chunks that were checked last

  def __getitem__(self, number: int) -> np.ndarray:
    """Returns an entry along the first axis.

    Raises:
      RefusedError: A chunk has another size than declared when it is inflated.
      ValueError: It is damaged.
    """
    if self._found.chunks:
      first = number // self._found.chunks[0] * self._found.chunks[0]
      if first != self._checked:
        for place in itertools.product([first], *self._chunks):
          self._check_chunk(place)
        self._checked = first
    try:
      return self._found[number]
    except OSError as error:
      raise ValueError(f"{self._where}: it is damaged ({error}); get it again.") from error

  def _check_chunk(self, place: tuple[int, ...]) -> None:
    """Raises RefusedError for a chunk of another size than declared, ValueError for a damaged one."""
    info = self._found.id.get_chunk_info_by_coord(place)
    if info.byte_offset is None:  # nothing is stored; it is filled
      return
    applied = [f for i, f in enumerate(self._filters) if not info.filter_mask >> i & 1]
    whole = self._chunk_bytes
    if _DEFLATE not in applied:
      whole += _CHECKSUM_BYTES * (_CHECKSUM in applied)
      if info.size != whole:
        raise limits.RefusedError(
          f"{self._where}: a chunk has {info.size} bytes instead of {whole}; get it again."
        )
      return
    whole += _CHECKSUM_BYTES * (_CHECKSUM in applied[: applied.index(_DEFLATE)])
    # Deflate adds less than a hundredth, whatever it is given.
    most = self._chunk_bytes + self._chunk_bytes // 100 + 1024
    if info.size > most:
      raise limits.RefusedError(f"{self._where}: a chunk has {info.size} bytes, over {most}.")
    self._check_inflated(self._found.id.read_direct_chunk(place)[1], whole)

  def _check_inflated(self, stored: bytes, expected: int) -> None:
    inflate = zlib.decompressobj()
    try:
      size = len(inflate.decompress(stored, expected + 1))
    except zlib.error as error:
      raise ValueError(f"{self._where}: a chunk is damaged ({error}); get it again.") from error
    if size != expected or not inflate.eof:
      more = "more" if size > expected else f"{size}" if size < expected else "no end"
      raise limits.RefusedError(
        f"{self._where}: a chunk of {expected} bytes inflates to {more}; get it again."
      )


def _dataset(h5py: Any, file: Any, name: str, rank: int, place: pathlib.Path) -> Any:
  link = file.get(name, getlink=True)
  found: Any = file.get(name) if isinstance(link, h5py.HardLink) else None
  if link is not None and found is None:
    raise limits.RefusedError(f"{place} refused: {name!r} is a link and not an array.")
  if (
    not isinstance(found, h5py.Dataset)
    or found.shape is None
    or len(found.shape) != rank
    or found.dtype.kind not in "uif"
  ):
    raise ValueError(f"{place} has no array {name!r} of {rank} axes of numbers.")
  return found
