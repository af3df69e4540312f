"""Choosing a track of a media file, and decoding it."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

import av
import av.container
import av.error
from av.stream import Disposition

from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.playlist import find_files as find_files
from perceiver_stream.streams.tiles import main_grid

logger = logging.getLogger(__name__)

Kind = Literal["video", "audio"]
_BUSY_S = 0.005  # a device that has no frame yet is read again after it
_MAX_READ_ERRORS = 20  # in a row, after which the rest of a file counts as lost


def choose(container: av.container.InputContainer, kind: Kind, index: int, path: str) -> Any:
  """Returns a track of the kind "video" or "audio", or None where there is none to decode.

  Args:
    container: Open.
    kind: "video" or "audio". Cover images do not count as video.
    index: Of the file's tracks of this kind, from 0; -1 is the one FFmpeg thinks best, and of a
      photo in tiles the first tile.
    path: For the message.

  Raises:
    ValueError: There are tracks, but not that many; or a photo in tiles cannot be put together.
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
  if index >= 0:
    return tracks[index]
  grid = main_grid(container, path) if kind == "video" else None
  best = grid.tiles[0] if grid else container.streams.best(kind)
  return next((s for s in tracks if s == best), tracks[0])


def decode(
  packets: Iterator[Any], context: Any, ledger: Ledger, kind: str
) -> Iterator[tuple[Any, bool]]:
  """Yields `(frame, after_loss)` of a track, in decoding order, skipping undecodable packets.

  Args:
    packets: As `packets_of` yields them, from where to start.
    context: The decoder.
    ledger: Receives damage.
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
    ledger: Receives damage.
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
    on_empty: Called with each packet of no bytes: recorders write one where an image is as before.
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


def best_track(container: Any, kind: Any) -> Any:
  """Returns the track of a kind that FFmpeg ranks best and can decode, or None."""
  best = container.streams.best(kind)
  return best if best is not None and best.codec_context is not None else None


def live_packets(container: Any, tracks: list[Any], stop: threading.Event) -> Any:
  """Yields packets until the end, or until `stop`."""
  while not stop.is_set():
    try:
      for packet in container.demux(*tracks):
        if stop.is_set():
          return
        if packet.size or packet.dts is None:  # PyAV's own at the end flush the decoders
          yield packet
      return
    except av.error.EOFError:
      return
    except av.error.BlockingIOError:  # a device has no frame yet
      stop.wait(_BUSY_S)


def _when(packet: Any) -> str:
  time = getattr(packet, "pts", None)
  return "" if time is None else f" at {float(time * packet.time_base):.2f} s"


def reason(error: Exception) -> str:
  """Returns a short text of an error."""
  return getattr(error, "strerror", None) or str(error) or type(error).__name__
