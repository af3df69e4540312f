"""Freed memory that is kept by the process instead of being returned to the kernel.

XLA allocates the temporary memory of a program anew at each call. glibc gets blocks of over 32 MB from the
kernel and returns them when they are freed, and so it does with the rest at the end of a heap. At the next
call the kernel clears each page again when it is first written: a fifth of the CPU time of the demo's
training step (Linux, glibc 2.36, jax 0.10.1). The price is that memory, once used, stays with the process.

A single arena for all threads (M_ARENA_MAX = 1) would also keep the blocks of over 64 MB of other
threads. But compiling leaves it full of holes, and then all threads wait for its lock. The demo's loop
(`benchmarks/online.py`, 2 cores, a process that compiled its program) learns 10.4 frames/s with one, and
18.5 with an arena for each thread; compiling takes 32 and 22 s. Where the program comes from the compile
cache, one arena is better, 20 to 22 frames/s against 15 to 18, but nobody's first run should take twice as long.
"""

import ctypes
import sys

# Names of <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SETTINGS = {
  M_MMAP_THRESHOLD: 2**30,
  M_TRIM_THRESHOLD: 2**31 - 1,
  M_TOP_PAD: 2**26,
}


def keep_freed_memory() -> bool:
  """Sets glibc's allocator so that freed memory is reused; call it before threads are started.

  Returns:
    True if it took all settings; False where the allocator is not glibc's.
  """
  if not sys.platform.startswith("linux"):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  return mallopt is not None and all([mallopt(name, value) for name, value in SETTINGS.items()])
