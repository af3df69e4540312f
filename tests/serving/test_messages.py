"""Messages are read back as they were written; what anybody else sends is refused."""

import struct

import numpy as np
import pytest

from perceiver_stream.serving.messages import DTYPES, MessageError, pack, unpack


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_arrays_and_header_come_back(shape) -> None:
  arrays = {name: np.ones(shape, name) for name in DTYPES}
  header, found = unpack(pack({"tick": 3, "text": "ä"}, arrays))
  assert header == {"tick": 3, "text": "ä"} and list(found) == list(arrays)
  for name, array in arrays.items():
    assert found[name].dtype == name and found[name].shape == shape
    np.testing.assert_array_equal(found[name], array)


def test_arrays_are_in_c_order_wherever_they_came_from() -> None:
  array = np.arange(6, dtype=">i4").reshape(2, 3).T
  np.testing.assert_array_equal(unpack(pack({}, {"x": array}))[1]["x"], array)


@pytest.mark.parametrize("array", [np.zeros(1, complex), np.array(["a"]), np.array([None])])
def test_other_dtypes_are_refused_with_what_to_do(array) -> None:
  with pytest.raises(ValueError, match="array 'x' is .*convert it to one of"):
    pack({}, {"x": array})


def _message(text: bytes, rest: bytes = b"") -> bytes:
  return struct.pack("<I", len(text)) + text + rest


@pytest.mark.parametrize(
  ("message", "reason"),
  [
    (b"", "0 bytes with a header of 0"),
    (b"\xff\xff\xff\xff{}", "with a header of 4294967295"),
    (_message(b"{ "), "no JSON"),
    (_message(b"[]"), "a JSON list; expected an object"),
    (_message(b"\xff\xff"), "no JSON"),
    (_message(b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"), "no JSON"),
    (_message(b'{"arrays":3}'), "'arrays' must be a list"),
    (_message(b'{"arrays":[["x","object",[1]]]}'), "expected .name, dtype, shape."),
    (_message(b'{"arrays":[["x","uint8",[-1]]]}'), "expected .name, dtype, shape."),
    (_message(b'{"arrays":[["x","uint8",[true]]]}'), "expected .name, dtype, shape."),
    (_message(b'{"arrays":[["x","float64",[9,9]]]}', b"abc"), "ends at byte"),
    (_message(b'{"arrays":[["x","uint8",[1]]]}', b"abc"), "2 bytes are left"),
    (_message(b'{"arrays":[["x","uint8",[99999,99999,99999]]]}'), "ends at byte"),
    (_message(b'{"arrays":[["x","float64",[0' + b",2147483647" * 3 + b"]]]}"), "send it flat"),
  ],
)
def test_messages_that_are_none_are_refused_by_name(message, reason) -> None:
  with pytest.raises(MessageError, match=reason):
    unpack(message)


def test_damaged_messages_are_messages_or_message_errors() -> None:
  rng = np.random.default_rng(0)
  good = bytearray(pack({"a": [1, 2]}, {"x": np.zeros((2, 3), np.float32)}))
  for _ in range(500):
    damaged = bytearray(good)
    for at in rng.integers(0, len(good), 3):
      damaged[at] = rng.integers(256)
    try:
      unpack(bytes(damaged[: rng.integers(1, len(good) + 1)]))
    except MessageError:
      continue
