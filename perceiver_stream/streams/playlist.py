"""The recordings that a path names: files, folders, patterns, and images that are one recording."""

import functools
import glob
import logging
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from perceiver_stream.streams import frame_numbers
from perceiver_stream.utils.paths import user_path, why_no_file

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
  ".264 .265 .360 .3g2 .3gp .3gp2 .3gpp .amv .asf .av1 .avi .divx .dv .dvr-ms .evo .f4v .flc "
  ".fli .flv .gif .gxf .h264 .h265 .hevc .insv .ivf .lrv .m1v .m2p .m2t .m2ts .m2v .m4v .mjpeg "
  ".mjpg .mk3d .mkv .mod .mov .mp4 .mp4v .mpe .mpeg .mpg .mpg4 .mpv .mts .mxf .nsv .nut .obu "
  ".ogm .ogv .ogx .qt .rm .rmvb .tod .tp .trp .ts .tts .vc1 .vob .webm .wmv .wtv .xvid .y4m".split()
)
IMAGE_SUFFIXES = frozenset(
  ".avif .bmp .dpx .exr .hdr .heic .heif .hif .j2k .jfif .jls .jp2 .jpeg .jpg .jxl .pam .pbm .pcx "
  ".pfm .pgm .png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp".split()
)
_PRINTF = re.compile(r"%(0[0-9]+)?d")  # FFmpeg's name for numbered images


@dataclass(frozen=True)
class ImageFiles:
  """Numbered images of one folder, which are one recording.

  Attributes:
    files: In natural order.
  """

  files: tuple[str, ...]

  def __str__(self) -> str:
    return f"{self.files[0]} ... {user_path(self.files[-1]).name}"

  def positions(self) -> list[Fraction]:
    """Returns the offset of each image, in frames from the first.

    Images whose numbers are no frame numbers (dates, ids) follow each other.
    """
    numbers = frame_numbers.frame_numbers([user_path(file).name for file in self.files])
    found = frame_numbers.positions(numbers) if numbers else None
    return found or [Fraction(place) for place in range(len(self.files))]


Source = str | ImageFiles


def find_recordings(path: str, image_sequences: bool = True) -> tuple[Source, ...]:
  """Returns the recordings of a playlist, in order.

  Images of one folder whose names differ in nothing but numbers are one recording, in natural
  order, if the folder or a pattern names them; an image that is named itself is one of its own.

  Args:
    path: A file; a folder (its videos, sorted by name, or if there is none its images); a glob
      pattern (matches, sorted); or several of these between commas, in the order given.
    image_sequences: False makes every image a recording of its own.

  Raises:
    FileNotFoundError: Something named is not there.
    ValueError: `path` is empty, or a folder has neither video nor image.
  """
  if not path.strip(" ,"):
    raise ValueError("video: path is empty; give a file, a folder, a glob or a list with commas.")
  whole = user_path(path).exists()  # its name may have commas
  found: list[Source] = []
  for part in [path] if whole else [part.strip() for part in path.split(",") if part.strip()]:
    place = user_path(part)
    if place.is_file():
      found.append(str(place))
      continue
    files = _files_in(place) if place.is_dir() else _matches(part, path)
    found += _sequences(files, part) if image_sequences else files
  return tuple(found)


def find_files(path: str) -> tuple[str, ...]:
  """Returns the files of a playlist, in order; see `find_recordings`."""
  return tuple(str(source) for source in find_recordings(path, image_sequences=False))


def one_recording(path: str) -> Source:
  """Returns the one recording that a path names.

  Raises:
    FileNotFoundError: Something named is not there.
    ValueError: There are several.
  """
  first, *more = find_recordings(path)
  if more:
    raise ValueError(
      f"{path} holds {1 + len(more)} recordings ({first}, {more[0]}, ...); give one video, or one "
      f"folder or pattern of numbered images."
    )
  return first


def _files_in(folder: pathlib.Path) -> list[str]:
  """Returns the videos of a folder, else its images, and warns of the files that it leaves out."""
  with os.scandir(folder) as entries:
    names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())
  for suffixes in (VIDEO_SUFFIXES, IMAGE_SUFFIXES):
    taken = [name for name in names if user_path(name).suffix.lower() in suffixes]
    if taken:
      _tell_of_rest(folder, names, taken)
      return [str(folder / name) for name in taken]
  raise ValueError(
    f"video: the folder {folder} has no video or image among its {len(names)} files; name other "
    f"kinds of file, or those of folders in it, by a glob such as {folder}/*.dat or {folder}/*/*."
  )


def _tell_of_rest(folder: pathlib.Path, names: list[str], taken: list[str]) -> None:
  rest = Counter(os.path.splitext(name)[1] for name in set(names).difference(taken))
  if rest:
    kinds = ", ".join(f"{suffix or 'no suffix'} {n}" for suffix, n in rest.most_common(5))
    _warn_once(
      f"video: {rest.total()} of the {len(names)} files in {folder} are left out ({kinds}"
      f"{', ...' if len(rest) > 5 else ''}); name them by a glob to have them."
    )


def _matches(part: str, path: str) -> list[str]:
  pattern = str(user_path(_PRINTF.sub("*", part)))
  files = [name for name in sorted(glob.glob(pattern, recursive=True)) if user_path(name).is_file()]
  if not files:
    why = why_no_file(part, "file, folder or match for")
    raise FileNotFoundError(f"video: {why} (path={path!r}).")
  return files


def _sequences(files: Iterable[str], part: str) -> list[Source]:
  """Returns files in their order, with images of one folder and skeleton put together."""
  groups: dict[tuple[str, str], list[str]] = {}
  for file in files:
    folder, name = os.path.split(file)
    is_image = user_path(name).suffix.lower() in IMAGE_SUFFIXES
    groups.setdefault((folder, frame_numbers.skeleton(name) if is_image else name), []).append(file)
  found: list[Source] = []
  for group in groups.values():
    group.sort(key=lambda file: frame_numbers.natural_key(os.path.basename(file)))
    found.append(group[0] if len(group) == 1 else ImageFiles(tuple(group)))
  alone = [f for f in found if isinstance(f, str) and user_path(f).suffix.lower() in IMAGE_SUFFIXES]
  if len(alone) > 1:
    _warn_once(
      f"video: {len(alone)} images of {part} ({os.path.basename(alone[0])}, "
      f"{os.path.basename(alone[1])}, ...) have names that differ in more than numbers: each is a "
      f"recording of its own."
    )
  return found


@functools.cache
def _warn_once(message: str) -> None:
  """Warns, unless it did already: each row of a batch looks for its files."""
  logger.warning(message)
