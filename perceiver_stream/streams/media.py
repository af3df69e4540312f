"""Files and what is wrong with them: choosing a track, decoding it, counting damage."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import av
import av.container
import av.error
from av.stream import Disposition

from perceiver_stream.streams.playlist import find_files as find_files

logger = logging.getLogger(__name__)

Kind = Literal["video", "audio"]
ON_DAMAGE = ("stop", "skip")
_MAY_BE_MEANT = ("gaps", "jumps")  # kinds of `Damage` that pauses and edits look like too
_MAX_READ_ERRORS = 20  # in a row, after which the rest of a file counts as lost


class DamagedError(ValueError):
  """A media file cannot be read as it should; the message says where and what to do."""


@dataclass
class Damage:
  """What was lost of the recordings read so far; all zero for sound ones.

  Attributes:
    files: Files that could not be opened, or held no picture.
    packets: Packets of pictures that could not be read or decoded.
    lost: Pictures that the file says it has and that never came.
    broken: Pictures partly made up by the decoder, or after a loss and before the next key frame.
    late: Pictures dropped because their time lay before one already given.
    jumps: Leaps of the file's clock, taken out; pauses longer than `max_gap_s` look the same.
    sound: Packets of sound that could not be read or decoded.
    gaps: Holes in the sound, longer than 20 ms, and, where the file states a constant rate, between
      the end of a picture as it states it and the next; no error, for some recorders pause, and
      leave out pictures of nothing new.
  """

  files: int = 0
  packets: int = 0
  lost: int = 0
  broken: int = 0
  late: int = 0
  jumps: int = 0
  sound: int = 0
  gaps: int = 0

  def __add__(self, other: "Damage") -> "Damage":
    theirs = dataclasses.asdict(other)
    return Damage(**{name: n + theirs[name] for name, n in dataclasses.asdict(self).items()})

  def __bool__(self) -> bool:
    return any(vars(self).values())

  def __str__(self) -> str:
    found = [f"{name} {n}" for name, n in dataclasses.asdict(self).items() if n]
    return ", ".join(found) or "none"


class Ledger:
  """Books the damage of one file, and stops or warns as the config says."""

  def __init__(self, path: str, on_damage: str):
    self.path, self.damage, self._stop = path, Damage(), on_damage == "stop"
    self.tried: int | None = None  # what went wrong in an attempt, which is not booked
    self._told: set[str] = set()

  def book(self, kind: str, where: str, count: int = 1) -> None:
    """Counts damage of one kind.

    Raises:
      DamagedError: The config says to stop at damage.
    """
    if self.tried is not None:
      self.tried += count if kind != "gaps" else 0
      return
    setattr(self.damage, kind, getattr(self.damage, kind) + count)
    what = f"{self.path}{'' if kind in _MAY_BE_MEANT else ' is damaged'}: {where}"
    if self._stop and kind != "gaps":
      raise DamagedError(
        f"{what}. Use on_damage='skip' to go on past such places and have them counted, or repair the "
        f"file."
      )
    if kind in self._told:
      return
    self._told.add(kind)
    end = "a recorder may have paused" if kind == "gaps" else "going on past it"
    logger.warning("%s; %s.", what, end)

  def close(self) -> None:
    """Says what was lost in all."""
    if self.damage:
      what = "holes" if self.damage == Damage(gaps=self.damage.gaps) else "damage"
      logger.warning("%s: %s in all: %s.", self.path, what, self.damage)


def choose(container: av.container.InputContainer, kind: Kind, index: int, path: str) -> Any:
  """Returns a track of the kind "video" or "audio", or None where there is none to decode.

  Args:
    container: Open.
    kind: "video" or "audio". Cover pictures do not count as video.
    index: Of the file's tracks of this kind, from 0; -1 is the one FFmpeg thinks best.
    path: For the message.

  Raises:
    ValueError: There are tracks, but not that many.
  """
  cover = Disposition.attached_pic
  found = [s for s in getattr(container.streams, kind) if not s.disposition & cover]
  tracks = [s for s in found if s.codec_context is not None]
  if len(tracks) < len(found):
    logger.warning(
      "%s: there is no decoder for %d of its %s tracks.", path, len(found) - len(tracks), kind
    )
  if not tracks:
    return None
  if index >= len(tracks):
    raise ValueError(
      f"{path}: {kind}_track={index}, but it has {len(tracks)} {kind} track(s); use 0 to "
      f"{len(tracks) - 1}, or -1 for the best."
    )
  best = container.streams.best(kind)
  return tracks[index] if index >= 0 else next((s for s in tracks if s == best), tracks[0])


def decode(
  packets: Iterator[Any], context: Any, ledger: Ledger, kind: str
) -> Iterator[tuple[Any, bool]]:
  """Yields `(frame, after_loss)` of a track, in decoding order, past what cannot be decoded.

  Args:
    packets: As `packets_of` yields them, from where to start.
    context: The decoder.
    ledger: Where damage goes.
    kind: Of damage, "packets" or "sound".
  """
  lost = False
  for packet in packets:
    frames, failed = decode_packet(context, packet, ledger, kind)
    lost |= failed
    for frame in frames:
      yield frame, lost
      lost = False


def decode_packet(context: Any, packet: Any, ledger: Ledger, kind: str) -> tuple[list[Any], bool]:
  """Returns the frames that a decoder gives for a packet of `packets_of`, and whether it failed.

  Args:
    context: The decoder.
    packet: As `packets_of` yields it.
    ledger: Where damage goes.
    kind: Of damage, "packets" or "sound".
  """
  try:
    if isinstance(packet, Exception):
      raise packet
    return context.decode(packet), False
  except av.error.EOFError:
    pass
  except (av.error.FFmpegError, ValueError) as error:
    ledger.book(kind, f"a packet of the {context.type} track{_when(packet)}: {reason(error)}")
    return [], True
  return [], False


def packets_of(
  container: av.container.InputContainer,
  track: Any,
  on_empty: Callable[[Any], None] | None = None,
) -> Iterator[Any]:
  """Yields packets, errors where one cannot be read, and at the end None, which flushes.

  Args:
    container: Open, at the place to start from.
    track: Of the container.
    on_empty: Called with each packet of no bytes: recorders write one where a picture is as before.
  """
  errors = 0
  while errors < _MAX_READ_ERRORS:
    try:
      for packet in container.demux(track):
        if packet.size == 0:  # a decoder would take it for the end
          if on_empty is not None and packet.dts is not None:  # PyAV's own at the end have no time
            on_empty(packet)
          continue
        errors = 0
        yield packet
      break
    except av.error.EOFError:
      break
    except av.error.FFmpegError as error:
      errors += 1
      yield error
  yield None


def _when(packet: Any) -> str:
  time = getattr(packet, "pts", None)
  return "" if time is None else f" at {float(time * packet.time_base):.2f} s"


def reason(error: Exception) -> str:
  """Returns what an error says, in a few words."""
  return getattr(error, "strerror", None) or str(error) or type(error).__name__
