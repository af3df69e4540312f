"""Writes TFRecord files, and segments in the format of the Waymo Open Dataset."""

import struct

import numpy as np
from data_files import jpeg
from rgbd_folders import field, varint
from video_files import picture

from perceiver_stream.files.tfrecords import masked_crc


def write_tfrecords(path, records):
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("wb") as file:
    for record in records:
      head = struct.pack("<Q", len(record))
      file.write(head + struct.pack("<I", masked_crc(head)) + record + b"\0\0\0\0")
  return path


def doubles(values, packed=False):
  """Returns a Transform: its numbers as one packed field, or one field each."""
  data = struct.pack(f"<{len(values)}d", *values)
  if packed:
    return field(1, data)
  return b"".join(varint(1 << 3 | 1) + data[at : at + 8] for at in range(0, len(data), 8))


def pose(number):
  values = np.eye(4)
  values[:3, 3] = (number, 2.5, -1)
  return values.ravel().tolist()


def camera_image(camera, number, packed=False):
  image = jpeg(picture(number, 24, 48))
  return field(1, camera) + field(2, image) + field(3, doubles(pose(number), packed))


def frame(number, time_us, cameras=(1, 2), packed=False):
  """Returns a Frame: context, time, images by camera (2 shows other numbers), and a lidar."""
  images = b"".join(
    field(4, camera_image(c, number + 100 * (c - 1), packed)) for c in cameras
  )  # fmt: skip
  return field(1, field(1, "segment")) + field(2, time_us) + images + field(5, b"\1" * 999)


def write_waymo(path, num, rate_hz=10, start_us=1_500_000_000_000_000, **options):
  times = [start_us + n * 1_000_000 // rate_hz for n in range(num)]
  return write_tfrecords(path, [frame(n, time, **options) for n, time in enumerate(times)])
