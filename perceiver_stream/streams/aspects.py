"""The aspect ratio of the pixels of each frame."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from perceiver_stream.streams.frame_rate import exact

_MOST_ASPECT = 16  # no screen has longer pixels


class Aspects:
  """The aspect ratio of the pixels of each frame: the container's, or else the codec's, which may change.

  The decoder states the ratio of the packets that it received last. It outputs frames later: those
  shown before the first packet of another ratio have the previous one.
  """

  def __init__(self, track: Any):
    self._context, self._packet = track.codec_context, None
    stated = track.sample_aspect_ratio  # the container's, or else the codec's at the start
    self._is_containers = stated != self._context.sample_aspect_ratio
    self._changes: deque[tuple[int | None, Fraction]] = deque([(None, _plausible(stated))])

  def watch(self, packets: Iterator[Any]) -> Iterator[Any]:
    """Yields packets for the decoder, which must receive each before the next one."""
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


def _plausible(stated: Any) -> Fraction:
  """Returns an aspect of PyAV, or 1 if there is none or no screen has it."""
  aspect = exact(stated) or Fraction(1)
  return aspect if 1 <= max(aspect, 1 / aspect) <= _MOST_ASPECT else Fraction(1)
