"""Finds the files of listed clips below the folder of a data set."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from perceiver_stream.files import limits
from perceiver_stream.streams.clip_sets.base import LabelledClip, Listed
from perceiver_stream.streams.playlist import VIDEO_SUFFIXES

AUDIO_SUFFIXES = frozenset(".aac .aif .aiff .flac .m4a .mp3 .oga .ogg .opus .wav .wma".split())
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES
MAX_CLIPS = 2**22  # of a split, which are held in memory: AudioSet has 2 million


class Found(NamedTuple):
  """The clips of a split.

  Attributes:
    clips: Those whose file is there, in the order of the list.
    missing: Videos whose file is not there, with the line that lists them; each once.
    videos: The number of videos listed.
  """

  clips: list[LabelledClip]
  missing: list[str]
  videos: int


def find_clips(root: pathlib.Path, listed: Iterable[Listed]) -> Found:
  """Returns the clips whose files are there, and the names of the others.

  Raises:
    RefusedError: A name leads out of the root, or there are more than `MAX_CLIPS`.
  """
  files, clips, missing, videos = Files(root), [], {}, set()
  shared: dict[tuple[Any, ...], Mapping[str, tuple[int, ...]]] = {}  # most clips share their labels
  for entry in listed:
    if len(clips) == MAX_CLIPS:
      raise limits.RefusedError(f"{entry.where}: more than {MAX_CLIPS} clips; split the list.")
    trimmed = files.find(entry.trimmed, entry.where)
    path = trimmed or files.find(entry.whole, entry.where)
    name = (entry.trimmed or entry.whole)[0]
    videos.add(name)
    if not path:
      missing.setdefault(name, f"{name} ({entry.where})")
      continue
    times = (entry.start_s, entry.stop_s) if not trimmed else (0.0, float("inf"))
    labels = shared.setdefault(tuple(entry.labels.items()), entry.labels)
    clips.append(LabelledClip(path, name, *times, labels, entry.caption))
  return Found(clips, list(missing.values()), len(videos))


def stem(name: str) -> str:
  """Returns a name without the suffix of a media file."""
  base, suffix = os.path.splitext(name)
  return base if suffix.lower() in MEDIA_SUFFIXES else name


class Files:
  """The media files below a folder, by their names without suffix; each folder is listed once."""

  def __init__(self, root: pathlib.Path):
    self._root, self._resolved = root, root.resolve()
    self._known: dict[str, dict[str, os.DirEntry[str]]] = {}

  def find(self, candidates: Sequence[str], where: str) -> str:
    """Returns the path of the first candidate that is there; "" if none is.

    Raises:
      RefusedError: One leads out of the root; names the line.
    """
    for candidate in candidates:
      folder, _, name = candidate.rpartition("/")
      try:
        if (
          len(name) > limits.MAX_NAME // 4
          or name in ("", ".", "..")
          or "\\" in name
          or "\0" in name
        ):
          limits.inside(self._root, candidate)
        entry = self._listing(folder).get(stem(name))
        if entry is not None and entry.is_symlink():
          self._check(self._root / folder / entry.name)
      except limits.RefusedError as error:
        raise limits.RefusedError(f"{where}: {error}") from error
      if entry is not None:
        return entry.path
    return ""

  def all(self, folder: str = "") -> list[str]:
    """Returns the names of the media files of a folder, sorted."""
    return sorted(entry.name for entry in self._listing(folder).values())

  def _listing(self, folder: str) -> "dict[str, os.DirEntry[str]]":
    if folder not in self._known:
      place = limits.inside(self._root, folder) if folder else self._root
      found: dict[str, os.DirEntry[str]] = {}
      if place.is_dir():
        self._check(place)
        with os.scandir(place) as entries:
          for entry in sorted(entries, key=lambda e: e.name):
            media = os.path.splitext(entry.name)[1].lower() in MEDIA_SUFFIXES
            if media and not entry.name.startswith(".") and entry.is_file():
              found.setdefault(stem(entry.name), entry)
      self._known[folder] = found
    return self._known[folder]

  def _check(self, place: pathlib.Path) -> None:
    if not place.resolve().is_relative_to(self._resolved):
      raise limits.RefusedError(f"{place} refused: it is a link that leads out of {self._root}.")
