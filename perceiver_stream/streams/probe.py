"""Contents of a media file before it is opened as a stream; single images."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from perceiver_stream.streams import video
from perceiver_stream.streams.aspects import Aspects
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.frame_rate import constant_rate
from perceiver_stream.streams.margins import margins_of
from perceiver_stream.streams.media import choose, decode, packets_of
from perceiver_stream.streams.opening import open_media
from perceiver_stream.streams.picker import shown_size
from perceiver_stream.streams.playlist import ImageFiles, one_recording
from perceiver_stream.streams.tiles import whole_photo


class Probe(NamedTuple):
  """A media file.

  Attributes:
    height: Rows of its images, upright, in square pixels.
    width: Columns.
    rate_hz: Images per second; 0 where the file does not state a constant rate. A stream of this
      `rate_hz` has a tick for each image.
    has_sound: True if there is a sound track.
    is_picture: True if it is a single image, no video.
  """

  height: int
  width: int
  rate_hz: float
  has_sound: bool
  is_picture: bool


def probe(path: str) -> Probe:
  """Returns the contents of a recording; decodes its first image, or first two.

  Args:
    path: Of a file, or of a folder or a pattern that is one recording, as `playlist` finds it.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It has no image, or there are several recordings.
  """
  source = one_recording(path)
  if isinstance(source, ImageFiles):
    return probe(source.files[0])._replace(rate_hz=0.0, has_sound=False, is_picture=False)
  with open_media(source) as container:
    track = choose(container, "video", -1, path)
    aspects = Aspects(track) if track is not None else None
    frames, repeats = _first_two(container, track, path) if aspects else ([], 0)
    if aspects is None or not frames:
      raise DamagedError(f"{path} has no image in it; give an image or a video.")
    size = shown_size(frames[0], margins_of(container, track, path), aspects.of(frames[0]))
    rate = float(constant_rate(track) or 0)
    is_picture = len(frames) == 1 and not repeats
    return Probe(*size, rate, bool(container.streams.audio), is_picture)


def _first_two(container: Any, track: Any, path: str) -> tuple[list[Any], int]:
  """Returns the first two frames that can be decoded, and how many packets repeat them."""
  photo = whole_photo(container, track, path)
  if photo is not None:
    return [photo], 0
  ledger, repeats = Ledger(path, "skip"), []
  ledger.tried = 0  # damage is reported by the reader of the file
  packets = packets_of(container, track, repeats.append)
  frames = decode(packets, track.codec_context, ledger, "packets")
  return [frame for frame, _ in itertools.islice(frames, 2)], len(repeats)


def reduced(height: int, width: int, max_side: int) -> tuple[int, int]:
  """Returns the size scaled so that no side is longer than `max_side`; 0 is no limit.

  >>> reduced(1080, 1920, 640), reduced(48, 64, 640)
  ((360, 640), (48, 64))
  """
  scale = max_side / max(height, width) if max_side else 1.0
  return (height, width) if scale >= 1 else (max(1, round(height * scale)), round(width * scale))


def read_picture(path: str) -> UInt8[np.ndarray, "H W 3"]:
  """Returns an image (PNG, JPEG, ...) at its own size, upright, RGB.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It cannot be read, or is a video.
  """
  about = probe(path)
  if not about.is_picture:
    raise ValueError(f"{path} is a video, not one image; give two images, or one video.")
  config = video.Config(path=path, height=about.height, width=about.width, audio_rate_hz=0)
  return next(iter(video.open_row(config)))["pixels"]
