"""MCAP files: an index of their messages, and the messages.

The whole file is gone through once, chunk by chunk, without unpacking those whose indexes follow, so
files without a summary (of recorders that crashed) are read as others are. Channels are stated inside
chunks: one that has the first messages of a channel is unpacked. Indexes are not trusted: a message
must be where one says. The file is read here and not by the `mcap` package, which lets
headers decide how much memory is taken.

Source: the specification of MCAP, version 0.
"""

import struct
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.streams.bag_index import Entries, open_regular
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.messages import unpack_from
from perceiver_stream.streams.unpacking import unpack

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _DATA_END = 2, 3, 4, 5, 6, 7, 15
_RECORD = struct.Struct("<BQ")  # opcode, length
_MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_OUTSIDE = -1  # in places: the message is in no chunk
_KEPT_CHUNKS = 2  # unpacked


class _Chunk(NamedTuple):
  """A chunk of the file: the place of its packed bytes."""

  at: int
  length: int
  packing: str
  size: int


class McapFile:
  """One open MCAP file.

  Attributes:
    topics: With all their messages.
  """

  def __init__(self, path: str, ledger: Ledger):
    """Opens a file and indexes it.

    Args:
      path: Of the file.
      ledger: Receives damage.

    Raises:
      DamagedError: It is no MCAP file, or damaged and the ledger stops.
      RefusedError: It asks for more than the limits.
    """
    self._path, self._ledger = path, ledger
    self._file, self._size = open_regular(path)
    self._chunks: list[_Chunk] = []
    self._indexes: dict[int, np.ndarray] = {}  # of the newest chunk, by channel: times and places
    self._indexed = 0  # messages that they state
    self._kept: OrderedDict[int, bytes] = OrderedDict()
    self._schemas: dict[int, str] = {}
    self._entries = Entries(path)
    try:
      self._scan()
    except BaseException:
      self.close()
      raise
    self.topics = self._entries.topics()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()
    self._kept.clear()

  def read(self, place: np.ndarray) -> bytes:
    """Returns the bytes of a message; DamagedError if there is none at the place."""
    chunk, at = int(place[0]), int(place[1])
    if chunk == _OUTSIDE:
      opcode, length = _RECORD.unpack(self._bytes(at, _RECORD.size))
      record = self._bytes(at + _RECORD.size, self._checked(length, at))
    else:
      data = self._unpacked(chunk)
      opcode, length = unpack_from("<BQ", data, at)
      record = data[at + _RECORD.size : at + _RECORD.size + length]
    if opcode != _MESSAGE or len(record) != length or length < _MESSAGE_HEADER.size:
      raise DamagedError(f"{self._path} is damaged: there is no message where its index has one")
    return record[_MESSAGE_HEADER.size :]

  def _scan(self) -> None:
    if self._bytes(0, min(len(MAGIC), self._size)) != MAGIC:
      raise DamagedError(f"{self._path} is no MCAP file: it does not start with {MAGIC!r}.")
    at, is_in_chunk = len(MAGIC), False  # or among its indexes
    while True:
      opcode, length = self._record_at(at)
      if is_in_chunk and opcode != _INDEX:
        self._end_chunk(has_all_indexes=opcode is not None)
        is_in_chunk = False
      if opcode in (None, _FOOTER, _DATA_END):
        return
      body = at + _RECORD.size
      if opcode == _CHUNK:
        self._add_chunk(body, length)
        is_in_chunk = True
      elif opcode == _INDEX and is_in_chunk:
        self._keep_index(self._bytes(body, self._checked(length, at)))
      elif opcode in (_SCHEMA, _CHANNEL, _MESSAGE):
        head = _MESSAGE_HEADER.size if opcode == _MESSAGE else self._checked(length, at)
        self._take(opcode, self._bytes(body, min(head, length)), _OUTSIDE, at)
      at = body + length

  def _record_at(self, at: int) -> tuple[int | None, int]:
    """Returns opcode and length of the record at a place; None where the file ends."""
    if at + _RECORD.size <= self._size:
      opcode, length = _RECORD.unpack(self._bytes(at, _RECORD.size))
      if at + _RECORD.size + length <= self._size:
        return opcode, length
    self._ledger.book("lost", f"it is cut off within the record at byte {at} of {self._size}")
    return None, 0

  def _add_chunk(self, body: int, length: int) -> None:
    head = self._bytes(body, min(length, 64))
    _, _, size, _, named = unpack_from("<QQQII", head, 0)
    if named > 16:
      raise DamagedError(f"{self._path} is damaged: the chunk at byte {body} has no packing.")
    (stored,) = unpack_from("<Q", head, 32 + named)
    packing = head[32 : 32 + named].decode(errors="replace")
    start = 40 + named
    if start + stored > length:
      raise DamagedError(
        f"{self._path} is damaged: the chunk at byte {body} states {stored} bytes in a record of "
        f"{length}."
      )
    self._checked(stored, body)
    self._chunks.append(_Chunk(body + start, stored, packing, size))

  def _keep_index(self, data: bytes) -> None:
    """Keeps the index of one channel until all those of the newest chunk are there."""
    channel, length = unpack_from("<HI", data, 0)
    if length % 16 or 6 + length > len(data):
      raise DamagedError(f"{self._path} is damaged: an index has {length} bytes.")
    self._indexes[channel] = np.frombuffer(data, "<u8", length // 8, 6).reshape(-1, 2).copy()
    self._indexed += length // 16
    self._entries.check_count(self._indexed)

  def _end_chunk(self, has_all_indexes: bool) -> None:
    """Adds the messages of the newest chunk, from its indexes if each is of another known channel."""
    number, indexes, stated = len(self._chunks) - 1, self._indexes, self._indexed
    self._indexes, self._indexed = {}, 0
    has_one_each = sum(map(len, indexes.values())) == stated
    are_known = indexes.keys() <= self._entries.channels.keys()
    if not (has_all_indexes and indexes and has_one_each and are_known):
      self._walk_chunk(number)
      return
    for channel, pairs in indexes.items():
      places = ((number, min(place, 2**62)) for place in map(int, pairs[:, 1]))
      self._entries.add(channel, map(int, pairs[:, 0]), places)

  def _walk_chunk(self, number: int) -> None:
    """Indexes a chunk from its contents."""
    try:
      data = self._unpacked(number)
    except DamagedError as error:
      self._ledger.book("lost", f"{error}")
      return
    at = 0
    while at + _RECORD.size <= len(data):
      opcode, length = unpack_from("<BQ", data, at)
      body = at + _RECORD.size
      if body + length > len(data):
        self._ledger.book("lost", f"a record of chunk {number} states {length} bytes")
        return
      self._take(opcode, data[body : body + length], number, at)
      at = body + length

  def _take(self, opcode: int, data: bytes, chunk: int, at: int) -> None:
    if opcode == _SCHEMA:
      (number,) = unpack_from("<H", data, 0)
      self._schemas[number] = _text(data, 2)[0]
    elif opcode == _CHANNEL:
      number, schema = unpack_from("<HH", data, 0)
      topic, end = _text(data, 4)
      encoding, _ = _text(data, end)
      self._entries.add_channel(number, topic, self._schemas.get(schema, ""), encoding)
    elif opcode == _MESSAGE:
      channel, _, time_ns, _ = unpack_from("<HIQQ", data, 0)
      self._entries.add(channel, [time_ns], [(chunk, at)])

  def _unpacked(self, number: int) -> bytes:
    if not 0 <= number < len(self._chunks):
      raise DamagedError(f"{self._path} has no chunk {number}")
    if number not in self._kept:
      chunk = self._chunks[number]
      packed = self._bytes(chunk.at, chunk.length)
      where = f"{self._path}, chunk {number},"
      self._kept[number] = unpack(packed, chunk.packing, chunk.size, where)
      while len(self._kept) > _KEPT_CHUNKS:
        self._kept.popitem(last=False)
    self._kept.move_to_end(number)
    return self._kept[number]

  def _checked(self, length: int, at: int) -> int:
    if length > limits.MAX_CHUNK_BYTES:
      raise limits.RefusedError(
        f"{self._path} refused: the record at byte {at} has {length} bytes; the most is "
        f"{limits.MAX_CHUNK_BYTES}."
      )
    return length

  def _bytes(self, at: int, length: int) -> bytes:
    self._file.seek(at)
    data = self._file.read(length)
    if len(data) < length:
      raise DamagedError(f"{self._path} is cut off at byte {self._size}")
    return data


def _text(data: bytes, at: int) -> tuple[str, int]:
  """Returns a string whose length comes first, and the place after it."""
  (length,) = unpack_from("<I", data, at)
  if at + 4 + length > len(data):
    raise DamagedError(f"a name of {length} bytes is cut off")
  return data[at + 4 : at + 4 + length].decode(errors="replace"), at + 4 + length
