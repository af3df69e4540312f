"""Compiled programs kept between runs of the scripts, in the user's cache folder.

JAX can bound its cache by itself, but a process killed between two of its writes leaves an entry
without a time, after which nothing is stored any more. So entries are written without a bound, and
the oldest are deleted when a script starts.
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
UNREADABLE = "Error reading persistent compilation cache entry"  # how JAX's warning begins
_SLOW_S = 3.0  # of compiling, after which a line says so


def folder() -> pathlib.Path | None:
  """Returns where programs are kept; None if they are not, or JAX's own variable says where.

  Programs are made for one kind of processor, so each kind has a folder of its own.
  """
  chosen = os.environ.get(VARIABLE, "")
  if chosen == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return None
  caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  root = user_path(chosen or os.path.join(caches, "perceiver_stream", "programs"))
  return root / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def enable() -> None:
  """Lets JAX keep compiled programs, and prints a line when compiling takes long.

  Where the folder cannot be written, a line says so and everything is compiled anew.
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


def repair(warning: str) -> str:
  """Deletes the program that a warning of JAX calls unreadable, and returns what happened in words.

  JAX compiles it again, but does not overwrite what is there.

  Args:
    warning: Text of any warning; "" is returned for others.
  """
  found = re.match(f"{UNREADABLE}[^']*'([^']+)'", warning)
  if not found or _NOTICE.kept is None:
    return ""
  for path in _NOTICE.kept.glob(f"{glob.escape(found[1])}-*"):
    path.unlink(missing_ok=True)
  return f"The kept program {found[1]} was damaged; it is compiled again."


def prune(kept: pathlib.Path, max_bytes: int) -> None:
  """Deletes the oldest files of a folder until the rest is at most so large; others may do so too."""
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
  """Returns what tells this processor from others that programs are not for."""
  try:
    lines = user_path("/proc/cpuinfo").read_text().splitlines()
    return next(line for line in lines if line.lower().startswith(("flags", "features")))
  except (OSError, StopIteration):
    return f"{platform.machine()} {platform.processor()}"


class Notice:
  """Prints one line while the first program that takes long is compiled.

  JAX reports when a program has been lowered, and when it has been compiled or loaded; between the
  two a timer runs.

  Attributes:
    kept: Where programs are kept, or None.
    slow_s: Seconds after which the line is printed.
    timer: Runs while a program is compiled or loaded.
    printed: Whether the line was printed.
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
  """Registers what listens to JAX's events, once in a process."""
  import jax

  jax.monitoring.register_event_duration_secs_listener(_NOTICE.on_event)
  tracing_memory.Collector().start()
