"""Start and end of the sound of a file, and warnings about sound outside all ticks."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av.error

from perceiver_stream.streams.media import choose
from perceiver_stream.streams.opening import open_media

logger = logging.getLogger(__name__)

_TOLD_S = Fraction(1, 5)  # codecs fill up their last packet, by less than this
_BACK_S = 1


class Extent(NamedTuple):
  """A stretch of time, in seconds of the file's clock."""

  start_s: Fraction
  end_s: Fraction

  def __str__(self) -> str:
    return f"{float(self.start_s):.2f} to {float(self.end_s):.2f} s"


def sound_extent(path: str, track_number: int, near_s: Fraction) -> Extent | None:
  """Returns from when to when the sound of a file lasts; decodes nothing.

  Args:
    path: Of the file.
    track_number: See `media.choose`.
    near_s: From about where on packets are read.

  Returns:
    None if there is no sound track, or none of it is there or later.
  """
  with open_media(path) as container:
    track = choose(container, "audio", track_number, path)
    if track is None:
      return None
    base = Fraction(track.time_base)
    first = Fraction(track.start_time or 0) * base
    try:
      container.seek(int(max(first, near_s - _BACK_S) / base), stream=track, backward=True)
    except av.error.FFmpegError:
      pass  # read all of it instead
    ends = [end * base for end in _ends(container, track)]
  return Extent(first, max(ends)) if ends else None


def _ends(container: Any, track: Any) -> Iterator[int]:
  try:
    for packet in container.demux(track):
      if packet.pts is not None:
        yield packet.pts + (packet.duration or 0)
  except av.error.FFmpegError:
    return  # damage is booked where the sound is decoded


def warn_of_left_out(path: str, config: Any, pictures: Extent) -> None:
  """Warns of sound after the last image, and of a sound track that does not overlap the images.

  Args:
    path: Of the file.
    config: Of the stream: which track, and how its times are shifted.
    pictures: Start and end of the images.
  """
  offset_s = Fraction(config.audio_offset_s).limit_denominator(10**6)
  sound = sound_extent(path, config.audio_track, pictures.end_s - offset_s)
  if sound is None:
    return
  sound = Extent(sound.start_s + offset_s, sound.end_s + offset_s)
  if sound.end_s <= pictures.start_s:
    logger.warning("%s: its sound (%s) ends before its images (%s).", path, sound, pictures)
  rest_s = float(sound.end_s - max(pictures.end_s, sound.start_s))
  if rest_s > _TOLD_S:
    logger.warning("%s: %.2f s of sound after its last image are left out.", path, rest_s)
