"""Memory limits for untrusted files, and the kinds of files that are opened.

Every reader takes its bounds from here. Only regular files are read: reading a pipe, a device or a
socket may never start or never end. File names listed in a file (lists, indexes) are resolved
within its own folder only.
"""

import json
import os
import pathlib
import stat
from typing import Any

from perceiver_stream.utils.paths import user_path

MAX_FILE_BYTES = 16 * 2**30  # the largest published weights are 3 GB
MAX_TEXT_BYTES = 2**25  # lists, configs, indexes: an index of 100,000 shards
MAX_PIXELS = 2**27  # one image: 108 million pixels are allowed, 30,000 x 30,000 are not
MAX_CLIP_BYTES = 8 * 2**30  # all images of one clip: 35 s of 1080p are 6.5 GB
CLIP_RATIO = 128  # size of decoded over encoded images; 10 to 50 for natural ones
HEADROOM_BYTES = 2**26  # allowed for every file, however small
MAX_CHUNK_BYTES = 2**28  # a chunk of a recording, or a message: writers use 1 to 64 MB
MAX_MESSAGES = 2**23  # in one recording, whose times and places are kept: 256 MB
MAX_NAME = 255  # bytes of the name of a file
MAX_SECONDS = 366 * 86400  # from the first to the last entry of one recording

_CHUNK = 2**20


class RefusedError(ValueError):
  """A file requests something that no valid file of its format needs."""


def max_unpacked_bytes(num_bytes: int) -> int:
  """Returns the maximum number of bytes that a packed file of `num_bytes` may unpack to.

  Parameters and videos compress to half their size at best; the headroom allows more for small
  files.
  """
  return min(MAX_FILE_BYTES, HEADROOM_BYTES + 3 * num_bytes)


def max_values(num_bytes: int) -> int:
  """Returns the maximum number of containers or instructions in a file of `num_bytes`.

  Each takes about 300 bytes of Python objects, but possibly only one byte of the file.
  """
  return 2**17 + num_bytes // 512


def check_image_size(height: int, width: int, where: str) -> None:
  """Refuses images that would need too much memory when decoded.

  Raises:
    RefusedError: The image has more than `MAX_PIXELS`.
  """
  if height * width > MAX_PIXELS:
    raise RefusedError(
      f"{where} refused: an image of {height} x {width} pixels; the most is {MAX_PIXELS}."
    )


class ClipBudget:
  """Compares the decoded size of a clip's images with their size in files."""

  def __init__(self, where: str):
    self._where, self._stored, self._decoded = where, 0, 0

  def add(self, stored: int, decoded: int) -> None:
    """Adds the stored and decoded bytes of an image or of a whole video.

    Raises:
      RefusedError: Decoded bytes exceed `CLIP_RATIO` times the stored ones, or the limit per clip.
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
    RefusedError: It is not a regular file, or has more than `most` bytes.
  """
  # Without O_NONBLOCK, opening a pipe waits for a writer.
  number = os.open(
    user_path(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
  )
  with open(number, "rb") as file:
    info = os.fstat(number)
    if not stat.S_ISREG(info.st_mode):
      raise RefusedError(f"{path} refused: it is not a regular file.")
    data = file.read(min(info.st_size, most) + 1)
    while info.st_size < len(data) <= most and (more := file.read(_CHUNK)):  # it has grown
      data += more
  if len(data) > most:
    raise RefusedError(f"{path} refused: it has more than {most} bytes.")
  return data


def read_text(path: str | pathlib.Path, most: int = MAX_TEXT_BYTES) -> str:
  """Returns the contents of a regular file as UTF-8 text; raises as `read_bytes`.

  Raises:
    ValueError: It is not UTF-8.
  """
  try:
    return read_bytes(path, most).decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is not UTF-8 text ({error}).") from error


def read_json(path: str | pathlib.Path) -> Any:
  """Returns the contents of a JSON file; raises as `read_text`.

  Raises:
    ValueError: It is not JSON, nests too deeply, or has too many values.
  """
  return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str, most: int | None = None) -> Any:
  """Returns the contents of JSON text.

  Args:
    text: JSON text.
    where: Name of the text in messages.
    most: Maximum number of lists and objects; other values may be 4 times as many. Default:
      `max_values`.

  Raises:
    RefusedError: It has more values.
    ValueError: It is not JSON; the message has the position.
  """
  most = max_values(len(text)) if most is None else most
  if text.count("[") + text.count("{") > most or text.count(",") > 4 * most:
    raise RefusedError(f"{where} refused: {len(text)} characters hold more than {most} values.")
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{where} is not readable as JSON ({error}).") from error


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of a file named by a list or an index.

  Raises:
    RefusedError: The name is absolute, leads out of the folder, or is longer than names can be.
  """
  parts = pathlib.PurePosixPath(name.replace("\\", "/")).parts
  path = pathlib.PurePath(name)
  longest = max((len(part.encode(errors="replace")) for part in parts), default=0)
  if longest > MAX_NAME:
    raise RefusedError(f"{folder} refused: it names a file with a name of {longest} bytes.")
  if not parts or ".." in parts or parts[0] == "/" or path.is_absolute() or "\0" in name:
    raise RefusedError(f"{folder} refused: it names the file {name!r}, which is not inside it.")
  return folder / name
