"""Small JPEG files, and some with another size in their header."""

import struct

import numpy as np

from perceiver_stream.utils.opencv import opencv


def jpeg(height: int = 16, width: int = 24, value: int = 90) -> bytes:
  image = np.full((height, width, 3), value, np.uint8)
  image[:, : width // 2, 0] = 200
  return opencv().imencode(".jpg", image[..., ::-1])[1].tobytes()


def resized_header(data: bytes, height: int, width: int) -> bytes:
  """Returns a JPEG whose header states another size."""
  at = data.index(b"\xff\xc0")
  return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
