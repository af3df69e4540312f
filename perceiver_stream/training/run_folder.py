"""The folder of a run: one process locks it, and every write to it goes through one function.

A full disk, a read-only folder, or a folder that was deleted or renamed meanwhile is always the
same error, with the folder, the last good checkpoint and what to do.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import jax

from perceiver_stream.reporting.run_files import CHECKPOINTS
from perceiver_stream.training.arrays import CheckpointError
from perceiver_stream.utils.paths import user_path

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None  # type: ignore[assignment]


class RunFolder:
  """The folder of a run, locked until it is closed.

  Attributes:
    path: Of the folder, absolute.
    checkpoints: Of its checkpoints.
  """

  def __init__(self, run_dir: str | pathlib.Path):
    """Makes the folder, tries to write to it, and locks it.

    Raises:
      CheckpointError: It cannot be made or written to, or another process holds it.
    """
    self.path = user_path(run_dir).absolute()
    self.checkpoints = self.path / CHECKPOINTS
    self._identity: tuple[int, int] | None = None
    self._handle: int | None = None
    with self.writing("A file to try it"):
      self.checkpoints.mkdir(parents=True, exist_ok=True)
      probe = self.checkpoints / f".writable-{os.getpid()}"
      with contextlib.ExitStack() as after:
        after.callback(probe.unlink, missing_ok=True)
        probe.write_bytes(b"x" * 4096)
      self._identity = _identity(self.path)
    if jax.process_index() == 0:  # only the first process of a run
      self._handle = lock(self.path)

  @contextlib.contextmanager
  def writing(self, what: str, errors: type[Exception] = OSError) -> Iterator[None]:
    """Turns an error of the block, which writes to the folder, into one with advice.

    Args:
      what: The name of the written file, at the start of a sentence.
      errors: The type of the errors that mean a failed write.

    Raises:
      CheckpointError: The block failed, or the folder is no longer where it was.
    """
    try:
      self.check_place()
      yield
    except CheckpointError:
      raise
    except errors as error:
      self.check_place()
      raise CheckpointError(
        f"{what} could not be written to {self.path}: {first_line(error)}. {self.last_good()} "
        f"Free some space or make the folder writable, then run the same command to resume; or "
        f"choose another --config.run_dir."
      ) from error

  def last_good(self) -> str:
    """Returns a sentence that names the newest complete checkpoint."""
    whole = steps(self.checkpoints)
    if not whole:
      return "There is no checkpoint yet."
    return f"The last good checkpoint is {whole[-1]}, and it is kept."

  def close(self) -> None:
    """Releases the folder."""
    if self._handle is not None:
      os.close(self._handle)
      self._handle = None

  def __enter__(self) -> "RunFolder":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def check_place(self) -> None:
    """Raises CheckpointError if the path no longer leads to the folder that was opened."""
    if self._identity is None:
      return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      if _identity(self.path) == self._identity:
        return
    raise CheckpointError(
      f"{self.path} was deleted, renamed or replaced while the run was writing to it, so the run "
      f"ends here. If it was renamed, resume it with --resume=NEW_NAME; if it was deleted, the same "
      f"command starts anew."
    )


def steps(folder: pathlib.Path) -> list[int]:
  """Returns the numbers of the complete checkpoints in a folder, oldest first."""
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if is_step(p.name) and p.is_dir())


def is_step(name: str) -> bool:
  """Returns True for the name of a checkpoint: a number as Python writes it.

  >>> [is_step(name) for name in ("0", "102", "007", "²", "-1", "damaged-3")]
  [True, True, False, False, False, False]
  """
  return name.isascii() and name.isdecimal() and str(int(name)) == name


def lock(folder: pathlib.Path) -> int | None:
  """Returns an open file that locks the folder; None if the system or disk has no locks.

  It is a lock of the operating system on the folder itself: it ends with its process, and does not
  depend on a file that could be deleted. If only files can be locked (some
  network disks), it is on `.lock` in the folder.

  Raises:
    CheckpointError: Another process has it.
  """
  if fcntl is None:
    return None
  for path, flags in ((folder, os.O_RDONLY), (folder / ".lock", os.O_RDWR | os.O_CREAT)):
    try:
      handle = os.open(path, flags)
    except OSError:
      continue
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return handle
    except OSError as error:
      os.close(handle)
      if isinstance(error, BlockingIOError):
        raise CheckpointError(
          f"Another run is writing to {folder}. Wait for it to end, or stop it; or choose another "
          f"--config.run_dir."
        ) from error
  return None


def _identity(path: pathlib.Path) -> tuple[int, int]:
  status = path.stat()
  return status.st_dev, status.st_ino


def first_line(error: Exception) -> str:
  """Returns type and first line of an error, shortened."""
  text = str(error).strip().splitlines()
  return f"{type(error).__name__}: {text[0][:300] if text else 'no message'}"
