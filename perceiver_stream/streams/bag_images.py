"""Images of robots' recordings: raw, encoded one by one, or frames of a video."""

from collections.abc import Callable
from typing import Any

import av
import av.error
import numpy as np
from av.codec.context import Flags

from perceiver_stream.files import limits
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.image_files import decode_image, nearest
from perceiver_stream.streams.messages import Encoded, RawImage

_FORMATS = {  # FFmpeg's name, channels, bytes of a channel
  "rgb8": ("rgb24", 3, 1),
  "bgr8": ("bgr24", 3, 1),
  "8UC3": ("bgr24", 3, 1),
  "rgba8": ("rgba", 4, 1),
  "bgra8": ("bgra", 4, 1),
  "mono8": ("gray", 1, 1),
  "8UC1": ("gray", 1, 1),
  "mono16": ("gray16le", 1, 2),
}
DEPTHS = {"16UC1": ("u2", 1 / 1000), "32FC1": ("f4", 1.0)}  # dtype and metres of a value
_STARTS = {b"\xff\xd8": "mjpeg", b"\x89PNG": "png", b"RIFF": "webp"}
_VIDEOS = {"h264": "h264", "h265": "hevc", "hevc": "hevc"}


def raw_frame(image: RawImage) -> av.VideoFrame:
  """Returns a frame of an image that is an array.

  Raises:
    DamagedError: Its encoding is not known, or its sizes do not fit its bytes.
  """
  if image.encoding not in _FORMATS:
    raise DamagedError(f"its encoding is {image.encoding[:40]!r}, expected one of {[*_FORMATS]}")
  form, channels, wide = _FORMATS[image.encoding]
  rows = _rows(image, f"u{wide}", channels)
  array = rows.reshape(*rows.shape[:1], image.width, channels)
  return av.VideoFrame.from_ndarray(
    np.ascontiguousarray(array.squeeze(2) if channels == 1 else array), format=form
  )


def raw_depth(image: RawImage, height: int, width: int, crop: str) -> np.ndarray:
  """Returns metres, float32 `[H, W]`, NaN where unknown; each pixel is the nearest of the source.

  Raises:
    DamagedError: It is no depth image, or its sizes do not fit its bytes.
  """
  if image.encoding not in DEPTHS:
    raise DamagedError(f"its encoding is {image.encoding[:40]!r}, expected one of {[*DEPTHS]}")
  code, unit_m = DEPTHS[image.encoding]
  values = _rows(image, code, 1)
  rows, columns = nearest(values.shape, (height, width), crop)
  values = values[rows][:, columns].astype(np.float32)
  return np.where(
    (values > 0) & np.isfinite(values), values * np.float32(unit_m), np.float32("nan")
  )


def _rows(image: RawImage, code: str, channels: int) -> np.ndarray:
  """Returns the rows of an image, `[H, W * channels]`, without what pads them."""
  limits.check_image_size(image.height, image.width, "an image")
  dtype = np.dtype((">" if image.is_big_endian else "<") + code)
  used = image.width * channels * dtype.itemsize
  if (
    not image.height * image.width
    or image.step < used
    or len(image.data) < image.step * image.height
  ):
    raise DamagedError(
      f"it states {image.height} x {image.width} pixels ({image.encoding}) in rows of {image.step} "
      f"bytes, and has {len(image.data)} bytes"
    )
  rows = np.frombuffer(image.data, np.uint8, image.step * image.height).reshape(-1, image.step)
  return np.ascontiguousarray(rows[:, :used]).view(dtype).astype(dtype.newbyteorder("="))


def encoded_frame(image: Encoded) -> av.VideoFrame:
  """Returns a frame of a JPEG, PNG or WebP; DamagedError if it is none, or incomplete."""
  for start, codec in _STARTS.items():
    if image.data.startswith(start):
      return decode_image(image.data, codec, "the image")
  raise DamagedError(f"its format is {image.format[:40]!r}, expected JPEG, PNG or WebP")


class VideoFrames:
  """Decodes frames of a video, one a message, from the key frame before."""

  def __init__(self, message: Callable[[int], Encoded]):
    """Makes one; `message` returns the message of a number, or raises DamagedError."""
    self._message = message
    self._decoder: Any = None
    self._at = -1  # message decoded last

  def __call__(self, at: int) -> av.VideoFrame:
    """Returns the frame of a message; DamagedError if it cannot be decoded."""
    if self._decoder is None or at <= self._at:
      self._decoder, self._at = None, self._key_before(at) - 1
    frames: list[Any] = []
    for number in range(self._at + 1, at + 1):
      self._at = number
      frames = self._decode(number, is_wanted=number == at)
    if not frames:
      raise DamagedError("no image could be decoded")
    return frames[-1]

  def _key_before(self, at: int) -> int:
    for number in range(at, -1, -1):
      try:
        if is_key(self._message(number)):
          return number
      except DamagedError:
        continue
    return 0

  def _decode(self, number: int, is_wanted: bool) -> list[Any]:
    try:
      message = self._message(number)
      self._decoder = self._decoder or _decoder(message.format)
      return self._decoder.decode(av.Packet(message.data)) if message.data else []
    except (av.error.FFmpegError, DamagedError, ValueError) as error:
      if is_wanted:
        raise DamagedError(f"{error}") from error
      return []


def _decoder(video_format: str) -> Any:
  if video_format not in _VIDEOS:
    raise DamagedError(f"its format is {video_format[:40]!r}, expected one of {[*_VIDEOS]}")
  codec: Any = av.CodecContext.create(_VIDEOS[video_format], "r")
  codec.options = {"max_pixels": str(limits.MAX_PIXELS)}
  codec.flags |= Flags.low_delay  # these videos have no frames that wait for later ones
  codec.thread_type = "NONE"
  return codec


def is_key(message: Encoded) -> bool:
  """Returns True if a decoder can start at a frame of H.264 or H.265: it has an IDR or IRAP picture."""
  data, at = message.data, -1
  while (at := data.find(b"\0\0\1", at + 1)) >= 0 and at + 3 < len(data):
    unit = data[at + 3]
    if message.format == "h264" and unit & 31 == 5:
      return True
    if message.format != "h264" and 16 <= unit >> 1 & 63 <= 21:
      return True
  return False
