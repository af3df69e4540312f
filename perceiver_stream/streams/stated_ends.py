"""The ends of tracks, as the container states them."""

import re
from typing import Any

import av

_LENGTH = re.compile(r"(\d+):(\d+):([\d.]+)")  # hours:minutes:seconds


def stated_end(container: Any, track: Any) -> int | None:
  """Returns the end of a track as the file states it, in units of its time base.

  FFmpeg takes the length of the file for that of a track that states none, now and then.
  """
  start = track.start_time or 0
  stated = _LENGTH.fullmatch(track.metadata.get("DURATION", ""))
  if stated:  # Matroska
    seconds = int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3])
    return int(seconds / track.time_base)
  if (
    container.format.name == "avi" and track.average_rate
  ):  # `duration` is that of the existing data
    return round(track.frames / track.average_rate / track.time_base)
  if track.duration:
    return start + track.duration
  if container.duration and len(container.streams) == 1:
    return int(((container.start_time or 0) + container.duration) / av.time_base / track.time_base)
  return None


def states_end_of_tracks(container: Any, track: Any) -> bool:
  """Returns True if a file states the length of each track, not only its total length."""
  return container.format.name.split(",")[0] in ("mov", "avi") or "DURATION" in track.metadata
