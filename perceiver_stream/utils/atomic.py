"""Atomic writing of files: a file gets its name only when it is complete."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator

from perceiver_stream.utils.paths import user_path


@contextlib.contextmanager
def replacing(path: str | pathlib.Path, *, shared: bool = False) -> Iterator[pathlib.Path]:
  """Yields a path in the same folder to write to; it becomes `path` unless there is an error.

  The yielded path has the same suffix, and its name starts with a dot. After an error it is
  deleted, and an earlier file of that name is unchanged.

  Args:
    path: File to write.
    shared: Allow several threads or processes to write this file at the same time.
  """
  path = user_path(path)
  writer = f"{os.getpid()}-{threading.get_ident()}-" if shared else ""
  part = path.with_name(f".part-{writer}{path.name}")
  try:
    yield part
    os.replace(part, path)
  finally:
    with contextlib.suppress(OSError):  # not the error to report
      part.unlink(missing_ok=True)


def write_bytes(path: str | pathlib.Path, data: bytes, *, shared: bool = False) -> None:
  """Writes a file, complete or not at all; see `replacing`."""
  with replacing(path, shared=shared) as part:
    part.write_bytes(data)


def write_text(path: str | pathlib.Path, text: str, *, shared: bool = False) -> None:
  """Writes a file in UTF-8, complete or not at all; see `replacing`."""
  write_bytes(path, text.encode(), shared=shared)
