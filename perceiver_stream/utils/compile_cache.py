"""Compiled programs kept between runs of the scripts, in the user's cache folder.

JAX can bound its cache itself, but a process killed between two of its writes leaves an entry
without a time stamp, after which nothing more is stored. Entries are therefore written without a
bound, and the oldest are deleted when a script starts.
"""

import functools
import glob
import hashlib
import os
import pathlib
import platform
import re
import sys
import threading
from typing import Any

from perceiver_stream.utils import tracing_memory
from perceiver_stream.utils.paths import user_path

VARIABLE = "PERCEIVER_STREAM_COMPILE_CACHE"  # a folder, or "off"
MAX_BYTES = 2**30
UNREADABLE = "Error reading persistent compilation cache entry"  # start of JAX's warning
_SLOW_S = 3.0  # of compilation, after which a message is printed


def folder() -> pathlib.Path | None:
  """Returns the folder of compiled programs; None if there is none or JAX's own variable sets it."""
  chosen = os.environ.get(VARIABLE, "")
  if chosen == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return None
  return user_folder("programs", chosen)


def user_folder(purpose: str, chosen: str = "") -> pathlib.Path:
  """Returns a folder for programs of this kind of processor, which run on no other.

  Args:
    purpose: Name of the folder inside the user's cache folder of this package.
    chosen: Another folder instead of that; "" is none.
  """
  caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  root = user_path(chosen or os.path.join(caches, "perceiver_stream", purpose))
  return root / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def enable() -> None:
  """Enables JAX's cache of compiled programs, and prints a line if compilation takes long.

  If the folder is not writable, this is printed and nothing is cached.
  """
  import jax

  _listen()
  kept = folder()
  _NOTICE.kept = kept
  if kept is None:
    return
  try:
    kept.mkdir(parents=True, exist_ok=True)
    prune(kept, MAX_BYTES)
    (probe := kept / f".{os.getpid()}").touch()
    probe.unlink()
  except OSError as error:
    _NOTICE.kept = None
    print(f"Compiled programs are not kept: {kept}: {error.strerror}.", file=sys.stderr)
    return
  jax.config.update("jax_compilation_cache_dir", str(kept))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_compilation_cache_max_size", -1)


def repair(warning: str, kept: pathlib.Path | None = None) -> str:
  """Deletes a cached program that JAX reports as unreadable; returns a message for the user.

  JAX compiles it again, but does not overwrite the damaged file.

  Args:
    warning: Text of any warning; "" is returned for others.
    kept: Folder of compiled programs; None is that of `enable`.
  """
  found = re.match(f"{UNREADABLE}[^']*'([^']+)'", warning)
  kept = kept or _NOTICE.kept
  if not found or kept is None:
    return ""
  for path in kept.glob(f"{glob.escape(found[1])}-*"):
    path.unlink(missing_ok=True)
  return f"The kept program {found[1]} was damaged; it is compiled again."


def prune(kept: pathlib.Path, max_bytes: int) -> None:
  """Deletes the oldest files of a folder down to `max_bytes`; other processes may do the same."""
  files = []
  for path in kept.iterdir():
    try:
      files.append((path.stat().st_mtime, path.stat().st_size, path))
    except FileNotFoundError:
      continue
  total = sum(size for _, size, _ in files)
  for _, size, path in sorted(files):
    if total <= max_bytes:
      return
    path.unlink(missing_ok=True)
    total -= size


def _processor() -> str:
  """Returns a description of the processor; compiled programs run on equal ones only."""
  try:
    lines = user_path("/proc/cpuinfo").read_text().splitlines()
    return next(line for line in lines if line.lower().startswith(("flags", "features")))
  except (OSError, StopIteration):
    return f"{platform.machine()} {platform.processor()}"


class Notice:
  """Prints one line during the first compilation that takes long.

  JAX reports the end of lowering and the end of compilation or loading; a timer runs in between.

  Attributes:
    kept: Folder of compiled programs, or None.
    slow_s: Seconds after which the line is printed.
    timer: Runs while a program is compiled or loaded.
    printed: True once the line was printed.
  """

  def __init__(self, slow_s: float):
    self.kept: pathlib.Path | None = None
    self.slow_s, self.printed = slow_s, False
    self.timer: threading.Timer | None = None

  def on_event(self, event: str, duration_secs: float, **about: Any) -> None:
    """Starts the timer when a program has been lowered, and stops it when the program is ready."""
    del duration_secs, about
    lowered = event.endswith("/jaxpr_to_mlir_module_duration")
    if self.timer is not None and (lowered or event.endswith("/backend_compile_duration")):
      self.timer.cancel()
      self.timer = None
    if lowered and not self.printed:
      self.timer = threading.Timer(self.slow_s, self.say)
      self.timer.daemon = True
      self.timer.start()

  def say(self) -> None:
    """Prints the line."""
    self.printed = True
    again = f"; kept in {self.kept} for the next start" if self.kept else ""
    text = "Compiling: usually half a minute to a minute for small models on a CPU"
    print(f"{text}{again}.", file=sys.stderr)


_NOTICE = Notice(_SLOW_S)


@functools.cache
def _listen() -> None:
  """Registers the listeners for JAX's events, once per process."""
  import jax

  jax.monitoring.register_event_duration_secs_listener(_NOTICE.on_event)
  tracing_memory.Collector().start()
