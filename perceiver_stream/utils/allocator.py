"""Settings of glibc's allocator for XLA's temporary memory: it is kept, and in huge pages.

XLA allocates the temporary memory of a program anew at each call. glibc gets blocks of over 32 MB from the
kernel and returns them when they are freed, and so it does with the rest at the end of a heap. At the next
call the kernel clears each page again when it is first written: a fifth of the CPU time of the demo's
training step (Linux, glibc 2.36, jax 0.10.1). The price is that memory, once used, stays with the process.

A single arena for all threads (M_ARENA_MAX = 1) would also keep the blocks of over 64 MB of other
threads. But compiling leaves it full of holes, and then all threads wait for its lock. The demo's loop
(`benchmarks/online.py`, 2 cores, a process that compiled its program) learns 10.4 frames/s with one, and
18.5 with an arena for each thread; compiling takes 32 and 22 s. Where the program comes from the compile
cache, one arena is better, 20 to 22 frames/s against 15 to 18, but nobody's first run should take twice as long.

Blocks that glibc gets from the kernel can have pages of 2 MB instead of 4 kB, which the processor finds faster
and the kernel clears at once: the same loop needs 101 CPU ms a tick instead of 120 (two runs each, in turns, on a
machine with other work), and a tenth more memory. glibc reads this setting (`HUGE_PAGES`) from
the environment when a process starts, so commands that learn start themselves again with it.
"""

import ctypes
import os
import sys
from collections.abc import Mapping

from perceiver_stream.utils.paths import user_path

# Names of <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SETTINGS = {
  M_MMAP_THRESHOLD: 2**30,
  M_TRIM_THRESHOLD: 2**31 - 1,
  M_TOP_PAD: 2**26,
}
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
OLDEST_GLIBC = (2, 35)
RESTARTED = "PERCEIVER_STREAM_RESTARTED"  # a privileged Python loses the setting; never twice
_KERNEL = user_path("/sys/kernel/mm/transparent_hugepage/enabled")


def keep_freed_memory() -> bool:
  """Sets glibc's allocator so that freed memory is reused; call it before threads are started.

  Returns:
    True if it took all settings; False where the allocator is not glibc's.
  """
  if not sys.platform.startswith("linux"):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  return mallopt is not None and all([mallopt(name, value) for name, value in SETTINGS.items()])


def restart_with_huge_pages() -> None:
  """Starts this command again, in the same process, with memory in huge pages where that helps.

  Call it first of all, before imports that take long and before anything is read from standard input.
  Returns, without having done anything, after that start, and where there is nothing to gain: see
  `huge_pages`. `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` turns it off.
  """
  if not sys.platform.startswith("linux"):
    return
  try:
    kernel, library = _KERNEL.read_text(), os.confstr("CS_GNU_LIBC_VERSION") or ""
  except (OSError, ValueError):  # no such file; not glibc
    return
  setting = huge_pages(os.environ, kernel, library)
  if setting and sys.executable:
    environment = {**os.environ, TUNABLES: setting, RESTARTED: "1"}
    try:
      os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError:  # it works without
      return


def huge_pages(environment: Mapping[str, str], kernel: str, library: str) -> str:
  """Returns the `GLIBC_TUNABLES` to start with; "" where a start would change nothing.

  Args:
    environment: Variables of this process.
    kernel: The kernel's rule for huge pages: only under `[madvise]` a process decides.
    library: Name and version of the C library, such as "glibc 2.36".
  """
  if RESTARTED in environment:
    return ""
  given = environment.get(TUNABLES, "")
  name, _, version = library.partition(" ")
  numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
  if name != "glibc" or numbers < OLDEST_GLIBC or "[madvise]" not in kernel or HUGE_PAGES in given:
    return ""
  return ":".join(filter(None, [given, f"{HUGE_PAGES}=1"]))
