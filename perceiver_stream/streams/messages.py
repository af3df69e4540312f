"""Messages of robots' recordings: those of a few known types, decoded by layouts that stand here.

A recording carries a definition of each type, which other readers turn into code. Here none is
read: a type is known by its name, so definitions that are cyclic, missing or made to harm do not
matter. Encodings: CDR (ROS 2), ROS 1, and Protocol Buffers (Foxglove).

Source: the definitions of sensor_msgs and foxglove_msgs; CDR as in the OMG's DDSI-RTPS, version 1.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream.streams.damage import DamagedError

CDR, ROS1, PROTOBUF = ENCODINGS = ("cdr", "ros1", "protobuf")


class RawImage(NamedTuple):
  """An image as an array; `step` bytes are a row."""

  height: int
  width: int
  encoding: str
  is_big_endian: bool
  step: int
  data: bytes


class Encoded(NamedTuple):
  """An encoded image, or one frame of a video."""

  format: str
  data: bytes


class Imu(NamedTuple):
  """Angular velocity, rad/s, and linear acceleration, m/s², 3 numbers each."""

  angular_velocity: np.ndarray
  linear_acceleration: np.ndarray


class Joints(NamedTuple):
  """Positions, rad or m, and velocities of joints; empty where the robot has none."""

  names: tuple[str, ...]
  positions: np.ndarray
  velocities: np.ndarray


class Cursor:
  """Reads values from the bytes of a message, and never beyond them."""

  def __init__(self, data: bytes, encoding: str):
    """Starts at the first value.

    Args:
      data: Of the message.
      encoding: "cdr" or "ros1".

    Raises:
      DamagedError: It has no CDR header, or one of another version.
    """
    self._data, self._is_cdr, self._at, self._origin, self._order = data, False, 0, 0, "<"
    if encoding == CDR:
      if len(data) < 4 or data[0] != 0 or data[1] > 3:
        raise DamagedError(
          f"it starts with {data[:4].hex()!r}, expected a CDR header 00 00 to 00 03"
        )
      self._is_cdr, self._at, self._origin = True, 4, 4  # values are aligned from the header on
      self._order = "<" if data[1] & 1 else ">"

  def numbers(self, code: str, count: int = 1) -> Any:
    """Returns an array of numbers; `code` is that of NumPy, as "u4"."""
    dtype = np.dtype(self._order + code)
    if self._is_cdr and count:
      self._at += -(self._at - self._origin) % dtype.itemsize
    return np.frombuffer(self.take(count * dtype.itemsize), dtype)

  def number(self, code: str) -> int:
    """Returns one whole number."""
    return int(self.numbers(code)[0])

  def take(self, count: int) -> bytes:
    """Returns some bytes; DamagedError if there are fewer."""
    left = len(self._data) - self._at
    if count > left:
      raise DamagedError(f"a value of {count} bytes starts {left} bytes before its end")
    self._at += count
    return self._data[self._at - count : self._at]

  def sequence(self, code: str) -> np.ndarray:
    """Returns an array whose length comes first."""
    return self.numbers(code, self.number("u4"))

  def data(self) -> bytes:
    """Returns bytes whose length comes first."""
    return self.take(self.number("u4"))

  def text(self) -> str:
    """Returns a string, which in CDR ends with a zero byte."""
    return self.data().rstrip(b"\0").decode(errors="replace")

  def header(self) -> None:
    """Skips a std_msgs/Header."""
    if not self._is_cdr:
      self.number("u4")  # a counter that ROS 2 does without
    self.stamp()
    self.data()

  def stamp(self) -> None:
    """Skips a time."""
    self.numbers("u4", 2)


def _image(read: Cursor) -> RawImage:
  read.header()
  height, width, encoding = read.number("u4"), read.number("u4"), read.text()
  return RawImage(height, width, encoding, bool(read.number("u1")), read.number("u4"), read.data())


def _compressed_image(read: Cursor) -> Encoded:
  read.header()
  return Encoded(read.text(), read.data())


def _compressed_video(read: Cursor) -> Encoded:
  read.stamp()
  read.data()  # frame_id
  data = read.data()
  return Encoded(read.text(), data)


def _foxglove_image(read: Cursor) -> RawImage:
  read.stamp()
  read.data()
  width, height, encoding = read.number("u4"), read.number("u4"), read.text()
  return RawImage(height, width, encoding, False, read.number("u4"), read.data())


def _imu(read: Cursor) -> Imu:
  read.header()
  values = read.numbers("f8", 37)  # orientation 4, covariance 9, then 3 and 9 twice
  return Imu(values[13:16].astype(np.float64), values[25:28].astype(np.float64))


def _joints(read: Cursor) -> Joints:
  read.header()
  names = tuple(read.text() for _ in range(_checked_count(read)))
  positions, velocities = read.sequence("f8"), read.sequence("f8")
  return Joints(names, positions.astype(np.float64), velocities.astype(np.float64))


_MOST_JOINTS = 4096


def _checked_count(read: Cursor) -> int:
  count = read.number("u4")
  if count > _MOST_JOINTS:
    raise DamagedError(f"it has {count} joints; the most is {_MOST_JOINTS}")
  return count


_LAYOUTS: Mapping[str, Callable[[Cursor], Any]] = {
  "sensor_msgs/Image": _image,
  "sensor_msgs/CompressedImage": _compressed_image,
  "sensor_msgs/Imu": _imu,
  "sensor_msgs/JointState": _joints,
  "foxglove_msgs/CompressedVideo": _compressed_video,
  "foxglove_msgs/CompressedImage": _compressed_video,
  "foxglove_msgs/RawImage": _foxglove_image,
}
# Of Foxglove's types in Protocol Buffers: the fields of the result, each with its number there.
_PROTOBUF: Mapping[str, tuple[type, Mapping[str, int]]] = {
  "foxglove_msgs/CompressedVideo": (Encoded, {"format": 4, "data": 3}),
  "foxglove_msgs/CompressedImage": (Encoded, {"format": 3, "data": 2}),
  "foxglove_msgs/RawImage": (
    RawImage,
    {"height": 3, "width": 2, "encoding": 4, "is_big_endian": 0, "step": 5, "data": 6},
  ),
}
VIDEO = "foxglove_msgs/CompressedVideo"
IMAGES = tuple(name for name in _LAYOUTS if name.endswith("Image"))
IMU, JOINTS = "sensor_msgs/Imu", "sensor_msgs/JointState"


def plain_type(name: str) -> str:
  """Returns the name of a type in one form, of "sensor_msgs/msg/Imu" or "foxglove.RawImage"."""
  package, _, rest = name.replace("::", "/").replace(".", "/").partition("/")
  package = "foxglove_msgs" if package == "foxglove" else package
  return f"{package}/{rest.removeprefix('msg/')}"


def is_known(message_type: str, encoding: str) -> bool:
  """Returns True if messages of a type, as `plain_type` gives it, can be decoded."""
  return message_type in (_PROTOBUF if encoding == PROTOBUF else _LAYOUTS) and encoding in ENCODINGS


def decode(data: bytes, message_type: str, encoding: str) -> RawImage | Encoded | Imu | Joints:
  """Returns a message.

  Args:
    data: As recorded.
    message_type: As `plain_type` gives it, one that `is_known`.
    encoding: One of `ENCODINGS`.

  Raises:
    DamagedError: The bytes are no such message.
  """
  if encoding == PROTOBUF:
    kind, fields = _PROTOBUF[message_type]
    found = _protobuf_fields(data)
    return kind(**{name: _field(found, number, name) for name, number in fields.items()})
  return _LAYOUTS[message_type](Cursor(data, encoding))


def _field(found: Mapping[int, bytes | int], number: int, name: str) -> Any:
  """Returns a field; fields of the value 0 or of no bytes are not written."""
  wanted = {"data": b"", "format": b"", "encoding": b""}.get(name, 0)
  value = found.get(number, wanted)
  if type(value) is not type(wanted):
    raise DamagedError(f"its field {number} ({name}) is of another kind")
  if isinstance(value, bytes) and name != "data":
    return value.decode(errors="replace")
  return value


def _protobuf_fields(data: bytes) -> dict[int, bytes | int]:
  """Returns the newest value of each field, by number; those inside fields are not read."""
  found: dict[int, bytes | int] = {}
  read = Cursor(data, ROS1)
  for _ in range(_MOST_FIELDS):
    key = _varint(read, at_end=0)
    if not key:
      return found
    number, kind = key >> 3, key & 7
    if kind == 0:
      found[number] = _varint(read)
    elif kind == 2:
      found[number] = read.take(_varint(read))
    elif kind in (1, 5):
      found[number] = int.from_bytes(read.take(8 if kind == 1 else 4), "little")
    else:
      raise DamagedError(f"its field {number} has the kind {kind} of Protocol Buffers")
  raise DamagedError(f"it has more than {_MOST_FIELDS} fields")


_MOST_FIELDS = 256


def _varint(read: Cursor, at_end: int | None = None) -> int:
  value = 0
  for shift in range(0, 70, 7):
    try:
      (byte,) = read.take(1)
    except DamagedError:
      if at_end is None or shift:
        raise
      return at_end
    value |= (byte & 127) << shift
    if byte < 128:
      return value
  raise DamagedError("it has a number of more than 10 bytes")


def unpack_from(layout: str, data: bytes, at: int) -> tuple[Any, ...]:
  """Returns numbers of a record; DamagedError if it is too short."""
  try:
    return struct.unpack_from(layout, data, at)
  except struct.error as error:
    raise DamagedError(f"a record is cut off: {error}") from error
