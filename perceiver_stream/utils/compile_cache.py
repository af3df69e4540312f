"""Compiled programs kept between runs of the scripts, in the user's cache folder.

JAX can bound its cache by itself, but a process killed between two of its writes leaves an entry
without a time, after which nothing is stored any more. So entries are written without a bound, and
the oldest are deleted when a script starts.
"""

import hashlib
import os
import pathlib
import platform
import sys
from typing import Any

from perceiver_stream.utils.paths import user_path

VARIABLE = "PERCEIVER_STREAM_COMPILE_CACHE"  # a folder, or "off"
MAX_BYTES = 2**30
_SLOW_S = 2.0  # of compiling, after which a line says so


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

  _Notice(kept := folder()).listen()
  if kept is None:
    return
  try:
    kept.mkdir(parents=True, exist_ok=True)
    prune(kept, MAX_BYTES)
    (probe := kept / f".{os.getpid()}").touch()
    probe.unlink()
  except OSError as error:
    print(f"Compiled programs are not kept: {kept}: {error.strerror}.", file=sys.stderr)
    return
  jax.config.update("jax_compilation_cache_dir", str(kept))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_compilation_cache_max_size", -1)


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


class _Notice:
  """Prints one line when programs that were not kept have taken long to compile."""

  def __init__(self, kept: pathlib.Path | None):
    self.kept, self.missed, self.spent_s, self.printed = kept, kept is None, 0.0, False

  def listen(self) -> None:
    """Starts listening to JAX's events."""
    import jax

    jax.monitoring.register_event_listener(self.count)
    jax.monitoring.register_event_duration_secs_listener(self.add)

  def count(self, event: str, **about: Any) -> None:
    """Notes that the next compilation is a real one."""
    del about
    self.missed = self.missed or event.endswith("/cache_misses")

  def add(self, event: str, duration_secs: float, **about: Any) -> None:
    """Adds up the time of real compilations."""
    del about
    if self.printed or not self.missed or not event.endswith("backend_compile_duration"):
      return
    self.spent_s += duration_secs
    self.missed = self.kept is None
    if self.spent_s > _SLOW_S:
      self.printed = True
      again = f"; kept in {self.kept} for the next start" if self.kept else ""
      print(f"Compiling: half a minute to a minute for small models{again}.", file=sys.stderr)
