"""Arrays of untrusted HDF5 files, read along their first axis within bounded memory.

HDF5 follows links to other files, loads plugins for filters, and inflates a chunk to whatever size it
has. Here arrays lie in the file itself, filters are its own three, and a chunk is inflated up to its
declared size before HDF5 reads it.
"""

import itertools
import pathlib
import zlib
from typing import Any

import numpy as np

from perceiver_stream.files import limits

_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3  # other filters load code
_CHECKSUM_BYTES = 4


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
    self._checked: set[tuple[int, ...]] = set()

  def __getitem__(self, number: int) -> np.ndarray:
    """Returns an entry along the first axis.

    Raises:
      RefusedError: A chunk has another size than declared when it is inflated.
      ValueError: It is damaged.
    """
    if _DEFLATE in self._filters:
      chunks = self._found.chunks
      first = number // chunks[0] * chunks[0]
      rest = [range(0, size, step) for size, step in zip(self.shape[1:], chunks[1:], strict=True)]
      for place in itertools.product([first], *rest):
        if place not in self._checked:
          self._check_chunk(place)
    return self._found[number]

  def _check_chunk(self, place: tuple[int, ...]) -> None:
    info = self._found.id.get_chunk_info_by_coord(place)
    deflated = not info.filter_mask >> self._filters.index(_DEFLATE) & 1
    if info.byte_offset is not None and deflated:
      # Deflate adds less than a hundredth, whatever it is given.
      most = self._chunk_bytes + self._chunk_bytes // 100 + 1024
      if info.size > most:
        raise limits.RefusedError(f"{self._where}: a chunk has {info.size} bytes, over {most}.")
      _, stored = self._found.id.read_direct_chunk(place)
      self._check_inflated(stored)
    self._checked.add(place)

  def _check_inflated(self, stored: bytes) -> None:
    expected, order = self._chunk_bytes, self._filters
    if _CHECKSUM in order and order.index(_CHECKSUM) < order.index(_DEFLATE):
      expected += _CHECKSUM_BYTES
    inflate = zlib.decompressobj()
    try:
      size = len(inflate.decompress(stored, expected + 1))
    except zlib.error as error:
      raise ValueError(f"{self._where}: a chunk is damaged ({error}); get it again.") from error
    if size != expected:
      more = "more" if size > expected else f"{size}"
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
