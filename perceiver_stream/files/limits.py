"""Limits of memory for files from strangers, and the kinds of files that are opened at all.

Every reader takes its bounds from here. A file is read only if it is a regular one: a pipe, a
device or a socket never ends or never starts. Names that stand in a file (lists, indexes) lead to
files of the same folder only.
"""

import json
import os
import pathlib
import stat
from typing import Any

from perceiver_stream.utils.paths import user_path

MAX_FILE_BYTES = 16 * 2**30  # the largest published weights have 3 GB
MAX_TEXT_BYTES = 2**25  # lists, configs, indexes: an index of 100,000 shards
MAX_PIXELS = 2**27  # one image: a photo of 108 million pixels is read, 30,000 x 30,000 is not
MAX_CLIP_BYTES = 8 * 2**30  # all images of one clip of a data set: 35 s of 1080p have 6.5 GB
CLIP_RATIO = 128  # decoded images over encoded ones; natural ones have 10 to 50
HEADROOM_BYTES = 2**26  # what any file may ask for, however small it is
MAX_SECONDS = 366 * 86400  # from the first to the last entry of one recording

_CHUNK = 2**20


class RefusedError(ValueError):
  """A file demands something that no file of its kind needs."""


def max_unpacked_bytes(num_bytes: int) -> int:
  """Returns the most bytes that a packed file of `num_bytes` may unpack to.

  Parameters and videos pack to half their size at best; the headroom lets small files pack better.
  """
  return min(MAX_FILE_BYTES, HEADROOM_BYTES + 3 * num_bytes)


def max_values(num_bytes: int) -> int:
  """Returns the most containers or instructions that a file of `num_bytes` may have.

  Each takes about 300 bytes of Python objects, though one byte may stand for it in the file.
  """
  return 2**17 + num_bytes // 512


def check_image_size(height: int, width: int, where: str) -> None:
  """Refuses images that would take too much memory when decoded.

  Raises:
    RefusedError: There are more than `MAX_PIXELS`.
  """
  if height * width > MAX_PIXELS:
    raise RefusedError(
      f"{where} refused: an image of {height} x {width} pixels; the most is {MAX_PIXELS}."
    )


class ClipBudget:
  """Counts what the images of one clip take in memory against what they are in files."""

  def __init__(self, where: str):
    self._where, self._stored, self._decoded = where, 0, 0

  def add(self, stored: int, decoded: int) -> None:
    """Counts the bytes of an image, or of a whole video, as stored and as decoded.

    Raises:
      RefusedError: They take `CLIP_RATIO` times more than is stored, or more than any clip.
    """
    self._stored += stored
    self._decoded += decoded
    most = min(MAX_CLIP_BYTES, HEADROOM_BYTES + CLIP_RATIO * self._stored)
    if self._decoded > most:
      raise RefusedError(
        f"{self._where} refused: {self._stored} bytes become images of more than {most} bytes; give "
        f"a smaller size, or fewer frames."
      )


def read_bytes(path: str | pathlib.Path, most: int = MAX_FILE_BYTES) -> bytes:
  """Returns the contents of a regular file.

  Raises:
    FileNotFoundError: There is no such file.
    OSError: It cannot be read.
    RefusedError: It is no regular file, or has more than `most` bytes.
  """
  # Without O_NONBLOCK, opening a pipe waits for somebody to write.
  number = os.open(
    user_path(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
  )
  with open(number, "rb") as file:
    info = os.fstat(number)
    if not stat.S_ISREG(info.st_mode):
      raise RefusedError(f"{path} refused: it is no regular file.")
    data = file.read(min(info.st_size, most) + 1)
    while info.st_size < len(data) <= most and (more := file.read(_CHUNK)):  # it has grown
      data += more
  if len(data) > most:
    raise RefusedError(f"{path} refused: it has more than {most} bytes.")
  return data


def read_text(path: str | pathlib.Path, most: int = MAX_TEXT_BYTES) -> str:
  """Returns the contents of a regular file as UTF-8 text; raises as `read_bytes`.

  Raises:
    ValueError: It is no text.
  """
  try:
    return read_bytes(path, most).decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is no UTF-8 text ({error}).") from error


def read_json(path: str | pathlib.Path) -> Any:
  """Returns the contents of a JSON file; raises as `read_text`.

  Raises:
    ValueError: It is no JSON, or nests or holds too much.
  """
  return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str, most: int | None = None) -> Any:
  """Returns the contents of JSON text.

  Args:
    text: All of it.
    where: Names the text in messages.
    most: Lists and objects it may have, and 4 times as many other values; by default `max_values`.

  Raises:
    RefusedError: It has more.
    ValueError: It is no JSON; the message has the place.
  """
  most = max_values(len(text)) if most is None else most
  if text.count("[") + text.count("{") > most or text.count(",") > 4 * most:
    raise RefusedError(f"{where} refused: {len(text)} characters hold more than {most} values.")
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{where} is not readable as JSON ({error}).") from error


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of a file that a list or an index names.

  Raises:
    RefusedError: The name is absolute or leads out of the folder.
  """
  parts = pathlib.PurePosixPath(name.replace("\\", "/")).parts
  path = pathlib.PurePath(name)
  if not parts or ".." in parts or parts[0] == "/" or path.is_absolute() or "\0" in name:
    raise RefusedError(f"{folder} refused: it names the file {name!r}, which is not inside it.")
  return folder / name
