"""The packets of images from which a decoder can start, and the way back to one.

A decoder that starts at a key packet gives the same images as an uninterrupted one, from the key
frame on. Neither time nor content of an image identifies that packet: still images look alike,
and some containers give other times after seeking. So a packet is identified by its bytes as well.
"""

import itertools
import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import av

_BACK_S = 2  # how far before a packet to seek: transport streams are not cut at key packets
_CRC_BYTES = 1 << 16  # of a packet that are looked at


class Key(NamedTuple):
  """A packet from which decoding can start: plain ints. `packet` -1: none but the file's first.

  Attributes:
    packet: Its number among those of the track.
    time: Its time, in units of the track's time base.
    size: Its bytes.
    crc: Checksum of its first bytes.
  """

  packet: int = -1
  time: int = 0
  size: int = 0
  crc: int = 0


class Shown(NamedTuple):
  """The identity of the image a clock shows, to find it again: plain ints.

  Attributes:
    origin: Time of the file's first image, in units of the time base.
    time: Its time.
    longest: Longest time between two images up to it.
    crc: Checksum of its pixels.
    replay: 1: to find it again, decode the file from its start.
    key: Of the packet from which to decode otherwise.
  """

  origin: int = 0
  time: int = 0
  longest: int = 0
  crc: int = 0
  replay: int = 0
  key: Key = Key()

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields by name, those of the key likewise."""
    return self._asdict() | {"key": self.key._asdict()}

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "Shown":
    """Returns the object from the output of `to_dict`."""
    return cls(**{**fields, "key": Key(**fields["key"])})


def marked(packets: Iterator[Any], number: int = 0) -> Iterator[Any]:
  """Yields packets; a frame decoded from a key packet has its `Key` as `opaque`.

  Args:
    packets: Of a track, as `media.packets_of` gives them; `copy_opaque` of its decoder is set.
    number: Of the first.
  """
  for packet in packets:
    if isinstance(packet, av.Packet):
      if packet.is_keyframe:
        packet.opaque = _key(packet, number)
      number += 1
    yield packet


def from_key(packets: Iterator[Any], key: Key) -> Iterator[Any] | None:
  """Returns packets from a key packet on, read up to there; None if it is not where it was.

  Args:
    packets: From the start of the track.
    key: Of the packet.
  """
  number = 0
  for packet in packets:
    if isinstance(packet, av.Packet):
      if number == key.packet:
        return itertools.chain([packet], packets) if _key(packet, number) == key else None
      number += 1
  return None


def seek_key(container: Any, track: Any, packets: Iterator[Any], key: Key) -> Iterator[Any] | None:
  """Returns packets from a key packet on, found by seeking; None if it is not found so.

  Args:
    container: Open.
    track: Of the container.
    packets: Of the track; nothing was read of it.
    key: Of the packet.

  Raises:
    av.error.FFmpegError: The container cannot seek there.
  """
  target = key.time - round(_BACK_S / Fraction(track.time_base))
  container.seek(max(track.start_time or 0, target), stream=track, backward=True)
  for packet in packets:
    if not isinstance(packet, av.Packet):
      return None
    if packet.is_keyframe and _time(packet) >= key.time:
      return itertools.chain([packet], packets) if _key(packet, key.packet) == key else None
  return None


def _key(packet: av.Packet, number: int) -> Key:
  crc = zlib.crc32(memoryview(packet)[:_CRC_BYTES])
  return Key(number, _time(packet), packet.size, crc)


def _time(packet: av.Packet) -> int:
  time = packet.pts if packet.pts is not None else packet.dts
  return 0 if time is None else time
