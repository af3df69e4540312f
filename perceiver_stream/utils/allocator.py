"""Freed memory that is kept by the process instead of being returned to the kernel.

XLA allocates the temporary memory of a program anew at each call. glibc gets blocks of over 32 MB from the
kernel and returns them when they are freed, and so it does with the rest at the end of a heap. At the next
call the kernel clears each page again when it is first written: a fifth of the CPU time of the demo's
training step (Linux, glibc 2.36, jax 0.10.1). The price is that memory, once used, stays with the process.
"""

import ctypes
import sys

# Names of <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
SETTINGS = {
  M_ARENA_MAX: 1,  # heaps of other threads end at 64 MB
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
