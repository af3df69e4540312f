"""The samples of a sound track and their positions, from decoders that restart at fixed places.

Audio decoders hold state that no seek brings back: the random generator behind AAC's noise bands
and AC-3's dither, predictors that never forget. So two minutes of sound after the last restart a
new decoder and a new resampler take over, warmed up on the packets before. Its position depends on
the file alone, and the sound after it on the packets from there on alone. Resuming starts
at the last restart and runs the same code on the same packets as an uninterrupted run.

A new decoder takes over only if its output equals the old one's. Otherwise (for example ADPCM with
a drifting predictor) the old one stays, and resuming decodes from the previous restart, or the start.
"""

import itertools
import zlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from perceiver_stream.streams.audio_resampling import TAPS, Block, Resampler, channels_of
from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.media import decode_packet, packets_of
from perceiver_stream.streams.mono import Mono
from perceiver_stream.streams.opening import open_media

SECTION_S = 120  # between restarts
_WARM_S = 1  # of sound on which a new decoder warms up; MP3 looks back 0.26 s at most
_CHECK_S = 0.25  # of sound on which it is then compared with the old one
_FEWEST = 4  # packets for that, of which two warm up: some hold a second
_TOLERANCE = 1e-4  # of full scale, 3 steps of 16 bits
# Their decoders fill in random noise, which restarts with them; other noise is no other sound.
_NOISE = frozenset({"aac", "ac3", "eac3"})
_MOST_NOISE = 1.5  # root mean square of two independent noises' difference, over that of one: 1.41
_BACK_S = 1  # how far before a packet to seek


class Restart(NamedTuple):
  """A position at which decoding restarts: plain ints. All zero: the start of the file.

  Attributes:
    packet: Number of the first packet given to the new decoder, of those of the track.
    pts: Its time, in units of the track's time base.
    packets_crc: Checksum of the packets from it up to the restart.
    packets: Their number.
    warm: Number of them that only warm the decoder up.
    skip: Samples dropped of the next ones, to put the resampler in step with the one before.
    place: Position of the first sample after those.
    position: From which on the samples are taken.
  """

  packet: int = 0
  pts: int = 0
  packets_crc: int = 0
  packets: int = 0
  warm: int = 0
  skip: int = 0
  place: int = 0
  position: int = 0


class Section(NamedTuple):
  """A decoder and a resampler, from one restart to the next.

  Attributes:
    context: The decoder.
    resampler: Its frames' resampler.
    packet: Number of the packet that comes next.
  """

  context: Any
  resampler: Resampler
  packet: int


class _Taken(NamedTuple):
  """A packet, its frames, and the samples that the resampler had taken before them."""

  packet: Any
  frames: list[av.AudioFrame]
  count: int


class AudioDecoder:
  """Decodes the track of an open container. Position k is the time k / rate after `zero_s`."""

  def __init__(self, container: Any, track: Any, rate: int, zero_s: Fraction, ledger: Ledger):
    self._container, self._track, self._ledger = container, track, ledger
    self._rate, self._zero_s, self._mono = rate, zero_s, Mono()
    self._end: int | None = None
    self.restarts: deque[Restart] = deque([Restart()], maxlen=4)  # the newest

  def blocks(self) -> Iterator[Block]:
    """Yields samples with their position, in order, from the start of the file."""
    section = Section(self._track.codec_context, self._resampler(), 0)
    return self._blocks(packets_of(self._container, self._track), section)

  def blocks_from(self, restart: Restart, seek: bool) -> Iterator[Block] | None:
    """Yields the blocks after a restart; None if the restart is not found.

    Args:
      restart: The position.
      seek: If True, seek; else the packets before are read, and not decoded.
    """
    packets = self._seek(restart) if seek else self._skip(restart)
    first = list(itertools.islice(packets, restart.packets))
    if len(first) < restart.packets or _checksum(first) != restart.packets_crc:
      return None
    section, _ = self._warmed_up(first, restart)
    self._end = restart.position
    self.restarts.append(restart)
    return self._blocks(packets, section)

  def _seek(self, restart: Restart) -> Iterator[Any]:
    target = restart.pts - round(_BACK_S / Fraction(self._track.time_base))
    target = max(self._track.start_time or 0, target)
    self._container.seek(target, stream=self._track, backward=True)
    packets = packets_of(self._container, self._track)
    return itertools.dropwhile(lambda p: _pts(p) is not None and _pts(p) < restart.pts, packets)

  def _skip(self, restart: Restart) -> Iterator[Any]:
    packets = packets_of(self._container, self._track)
    read = (packet for packet in packets if isinstance(packet, av.Packet))
    for _ in itertools.islice(read, restart.packet):
      pass
    return packets

  # --- sections ---------------------------------------------------------------------------------

  def _blocks(self, packets: Iterator[Any], section: Section | None) -> Iterator[Block]:
    while section is not None:
      section = yield from self._section(packets, section)

  def _section(self, packets: Iterator[Any], section: Section) -> Any:
    """Yields blocks up to the next restart; returns the section that follows, None at the end."""
    context, resampler, number = section
    recent: deque[_Taken] = deque()
    samples = 0
    for packet in packets:
      starts, count = resampler.starts, resampler.count
      decoded, failed = decode_packet(context, packet, self._ledger, "sound")
      frames = [self._mono(frame) for frame in decoded]
      for frame in frames:
        yield from self._placed(resampler.take(frame))
      number += isinstance(packet, av.Packet)
      samples += sum(frame.samples for frame in frames)
      if failed or packet is None or not starts or resampler.starts != starts:
        recent.clear()
        continue
      recent.append(_Taken(packet, frames, count))
      _drop_old(recent, resampler)
      if samples < SECTION_S * resampler.source_rate:
        continue
      if restart := self._plan(recent, resampler, number):
        if following := self._following(recent, resampler, restart):
          return following
        samples = 0
    yield from self._placed(resampler.flush())
    return None

  def _placed(self, blocks: Iterator[Block]) -> Iterator[Block]:
    """Yields blocks in order; overlaps are dropped."""
    for position, samples in blocks:
      if self._end is not None and position < self._end:
        position, samples = self._end, samples[self._end - position :]
      if samples.size:
        self._end = position + samples.size
        yield position, samples

  def _plan(self, recent: deque[_Taken], resampler: Resampler, number: int) -> Restart | None:
    """Returns a restart after the recent packets, if they suffice to warm up and compare."""
    rate = resampler.source_rate
    ready = [k for k, taken in enumerate(recent) if taken.count - recent[0].count >= _WARM_S * rate]
    if len(recent) < _FEWEST or not ready:
      return None
    warm = max(2, ready[0])
    skip, place = resampler.in_step(recent[warm].count)
    used = resampler.count - recent[warm].count - skip
    if used < max(_CHECK_S * rate / 2, 4 * TAPS * max(1, rate // self._rate)):
      return None
    packets = [taken.packet for taken in recent]
    return Restart(
      packet=number - len(packets),
      pts=packets[0].pts or 0,
      packets_crc=_checksum(packets),
      packets=len(packets),
      warm=warm,
      skip=skip,
      place=place,
      position=self._end or 0,
    )

  def _following(self, recent: deque[_Taken], old: Resampler, restart: Restart) -> Section | None:
    """Returns the section after a restart, if its decoder agrees with the old one."""
    try:
      section, frames = self._warmed_up([taken.packet for taken in recent], restart)
    except (av.error.FFmpegError, OSError, ValueError, LookupError):
      return None
    expected = [f for taken in itertools.islice(recent, restart.warm, None) for f in taken.frames]
    if section.resampler.position != old.position or not _agree(frames, expected, section.context):
      return None
    self.restarts.append(restart)
    return section

  def _warmed_up(self, packets: list[Any], restart: Restart) -> tuple[Section, list]:
    """Returns the section after a restart, and the frames that its resampler has taken."""
    with open_media(self._ledger.path) as again:
      context = again.streams[self._track.index].codec_context
    resampler = self._resampler(restart.place, restart.skip)
    frames: list[av.AudioFrame] = []
    for number, packet in enumerate(packets):
      decoded = [self._mono(frame) for frame in context.decode(packet)]
      frames += decoded if number >= restart.warm else []
    for frame in frames:
      for _ in resampler.take(frame):
        pass
    return Section(context, resampler, restart.packet + restart.packets), frames

  def _resampler(self, place: int | None = None, skip: int = 0) -> Resampler:
    return Resampler(self._rate, self._zero_s, self._ledger, place, skip)


def _drop_old(recent: deque[_Taken], resampler: Resampler) -> None:
  """Drops packets that are not needed for warming up and comparing."""
  kept = resampler.source_rate * (_WARM_S + _CHECK_S)
  while len(recent) > _FEWEST and resampler.count - recent[1].count >= kept:
    recent.popleft()


def _pts(packet: Any) -> Any:
  return getattr(packet, "pts", None)


def _checksum(packets: list[Any]) -> int:
  crc = 0
  for packet in packets:
    data = bytes(packet) if isinstance(packet, av.Packet) else b""
    crc = zlib.crc32(data, zlib.crc32(str(_pts(packet)).encode(), crc))
  return crc


def _agree(frames: list[av.AudioFrame], expected: list[av.AudioFrame], context: Any) -> bool:
  """Returns True if two decoders have the same output, except for synthesised noise."""
  forms = [
    [(f.samples, f.sample_rate, f.format.name, f.layout.name) for f in each]
    for each in (frames, expected)
  ]
  if not frames or forms[0] != forms[1]:
    return False
  got, old = (np.concatenate([channels_of(f) for f in each], 1) for each in (frames, expected))
  full = np.iinfo(got.dtype).max if got.dtype.kind in "iu" else 1
  error = np.abs(got.astype(np.float64) - old) / full
  # The predictors of AAC's Main profile never forget: there the difference need not be noise.
  if context.name in _NOISE and context.profile != "Main":
    return _rms(error) <= _MOST_NOISE * _rms(old / full) + _TOLERANCE
  return bool(error.max() <= _TOLERANCE)


def _rms(samples: np.ndarray) -> float:
  return float(np.sqrt(np.mean(np.square(samples))))
