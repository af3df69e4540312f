"""Freed memory is reused: a large block is not cleared again by the kernel."""

import os
import pathlib
import subprocess
import sys

import pytest

from perceiver_stream.utils import allocator

FAULTS = """
import resource
import numpy as np
from perceiver_stream.utils import allocator
assert allocator.keep_freed_memory()
def touch():
  for _ in range(4):
    np.ones(10_000_000, np.float64)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
faults = []
touch()
print(faults[-1] - faults[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of glibc")
def test_a_block_of_80_mb_is_reused_without_page_faults():
  if not allocator.keep_freed_memory():
    pytest.skip("the allocator is not that of glibc")
  command = [sys.executable, "-c", FAULTS]
  faults = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
  assert faults < 1000  # three times 20,000 pages otherwise


def test_other_platforms_are_left_alone(monkeypatch):
  monkeypatch.setattr(allocator.sys, "platform", "darwin")
  assert not allocator.keep_freed_memory()


@pytest.mark.parametrize(
  ("given", "kernel", "library", "expected"),
  [
    ("", "always [madvise] never", "glibc 2.36", "glibc.malloc.hugetlb=1"),
    ("glibc.x=1", "always [madvise] never", "glibc 3.1", "glibc.x=1:glibc.malloc.hugetlb=1"),
    ("glibc.malloc.hugetlb=0", "always [madvise] never", "glibc 2.36", ""),
    ("", "[always] madvise never", "glibc 2.36", ""),
    ("", "always madvise [never]", "glibc 2.36", ""),
    ("", "always [madvise] never", "glibc 2.34", ""),
    ("", "always [madvise] never", "musl 1.2", ""),
    ("", "always [madvise] never", "", ""),
  ],
)
def test_a_start_with_huge_pages_where_it_changes_something_and_never_twice(
  given, kernel, library, expected
):
  environment = {"GLIBC_TUNABLES": given} if given else {}
  assert allocator.huge_pages(environment, kernel, library) == expected
  assert not allocator.huge_pages(environment | {allocator.RESTARTED: "1"}, kernel, library)


RESTARTING = """
import os, sys
from perceiver_stream.utils import allocator
print("started", os.getpid(), flush=True)
allocator.restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.stdin.read())
"""


@pytest.mark.parametrize("setting", [None, "glibc.malloc.hugetlb=0"])
def test_a_command_starts_once_more_with_its_arguments_and_its_input(setting, tmp_path):
  own = ("GLIBC_TUNABLES", allocator.RESTARTED)
  environment = {name: x for name, x in os.environ.items() if name not in own}
  environment |= {} if setting is None else {"GLIBC_TUNABLES": setting}
  kernel, restarts = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled"), False
  if sys.platform.startswith("linux") and kernel.is_file():
    library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    restarts = bool(allocator.huge_pages(environment, kernel.read_text(), library))
  command = [sys.executable, "-c", RESTARTING, "--a", "b c"]
  *starts, last = subprocess.run(
    command, input="typed", check=True, capture_output=True, text=True, env=environment
  ).stdout.splitlines()
  assert len(starts) == 1 + restarts and len(set(starts)) == 1  # the same process
  assert last.endswith("['--a', 'b c'] typed")
  assert last.startswith("glibc.malloc.hugetlb=1" if restarts else str(setting))
