"""Freed memory is reused: a large block is not cleared again by the kernel."""

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
