"""What a container states on how to show the frames of a track.

PyAV does not hand on cropping and groups of tiles. FFmpeg's own description of a file, the text
that its program prints, has both.
"""

import re
import threading
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av.logging

from perceiver_stream.streams.damage import DamagedError

_CROPPING = re.compile(r"^ +Frame [Cc]ropping: (\d+)/(\d+)/(\d+)/(\d+)$", re.MULTILINE)
_MOST_ASPECT = 16
_LOCK = threading.Lock()  # the level of FFmpeg's log is one for all threads


class Margins(NamedTuple):
  """What a container wants cut off each frame: columns on the left and right, rows above and below."""

  left: int = 0
  right: int = 0
  top: int = 0
  bottom: int = 0

  def inside(self, frame: Any) -> tuple[int, int]:
    """Returns the rows and columns that are left of a frame."""
    return frame.height - self.top - self.bottom, frame.width - self.left - self.right

  def filters(self) -> Iterator[str]:
    """Yields the FFmpeg filter that cuts them off, if there is something to cut."""
    if any(self):
      width, height = f"iw-{self.left + self.right}", f"ih-{self.top + self.bottom}"
      yield f"crop=w={width}:h={height}:x={self.left}:y={self.top}"


WHOLE = Margins()


def margins_of(container: Any, track: Any, path: str) -> Margins:
  """Returns the margins that an open container states for a track of pictures.

  Raises:
    DamagedError: Nothing would be left of a frame.
  """
  found = _CROPPING.search(_about_stream(description(container), track.index))
  margins = Margins(*(int(n) for n in found.groups())) if found else WHOLE
  context = track.codec_context
  if margins != WHOLE and min(margins.inside(context)) < 1:
    raise DamagedError(
      f"{path}: it states {margins} to cut off, but its frames have {context.width} x "
      f"{context.height} pixels; leave it out of path."
    )
  return margins


class Aspects:
  """The shape of the pixels of each frame: the container's, or else the codec's, which may change.

  The decoder states the shape of the frames of the packets that it was given last. It gives frames
  out later: those shown before the first packet of another shape have the one before.
  """

  def __init__(self, track: Any):
    self._context, self._packet = track.codec_context, None
    stated = track.sample_aspect_ratio  # the container's, or else the codec's at the start
    self._is_containers = stated != self._context.sample_aspect_ratio
    self._changes: deque[tuple[int | None, Fraction]] = deque([(None, _plausible(stated))])

  def watch(self, packets: Iterator[Any]) -> Iterator[Any]:
    """Yields packets for the decoder, which is to have had each before the next is asked for."""
    self._changes = deque([(None, self._changes[-1][1])])
    for self._packet in packets:
      yield self._packet
      self._look()

  def _look(self) -> None:
    now = _plausible(self._context.sample_aspect_ratio)
    if not self._is_containers and now != self._changes[-1][1]:
      self._changes.append((getattr(self._packet, "pts", None), now))

  def of(self, frame: Any) -> Fraction:
    """Returns the width over the height of the pixels of a frame, just decoded."""
    self._look()
    while len(self._changes) > 1 and _is_due(self._changes[1][0], frame.pts):
      self._changes.popleft()
    return self._changes[0][1]


def _is_due(since: int | None, now: int | None) -> bool:
  return since is None or now is None or since <= now


def _plausible(aspect: Fraction | None) -> Fraction:
  """Returns an aspect, or 1 where there is none, or one of no screen."""
  aspect = Fraction(aspect or 1)
  return aspect if 1 <= max(aspect, 1 / aspect) <= _MOST_ASPECT else Fraction(1)


def description(container: Any) -> str:
  """Returns the text that the ffmpeg program prints about a file."""
  with _LOCK:
    level = av.logging.get_level()
    try:
      av.logging.set_level(av.logging.INFO)
      return container.dumps_format()
    finally:
      av.logging.set_level(level)


def _about_stream(text: str, index: int) -> str:
  """Returns the part of a description that is about one stream."""
  parts = re.split(r"^  (?=Stream )", text, flags=re.MULTILINE)
  return next((part for part in parts if re.match(rf"Stream #\d+:{index}\b", part)), "")
