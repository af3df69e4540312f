"""Strict settings for every test, set before jax makes its first array."""

import collections
import gc
import importlib.metadata
import itertools
import os
import pathlib
import warnings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two devices, for the mesh. Tests run each program once or twice: compile fast, not well.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
  " --xla_force_host_platform_device_count=2"
  " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones exit at an unknown flag
  # The emitters write better programs, in twice the time; workers fill the cores without threads.
  os.environ["XLA_FLAGS"] += (
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
  )
from collections.abc import Iterator

from perceiver_stream.utils import compile_cache

# Modules, workers, scripts under test and later runs, of any checkout, share what they compile.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compile_cache.user_folder("tests")))
# Without JAX's own bound: a killed process can leave an entry after which it stores nothing more.
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest
from quick_init import start_quickly
from shared_models import share_models

PROGRAMS = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
if "PYTEST_XDIST_WORKER" not in os.environ:
  PROGRAMS.mkdir(parents=True, exist_ok=True)
  compile_cache.prune(PROGRAMS, 2**31)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

MAX_RESIDENT_BYTES = 3 * 2**30  # of a worker
MAX_MAPPINGS = 30_000  # of memory; Linux allows 65,530, and each compiled program has a few


def _programs_crowd() -> bool:
  """Returns whether this process holds much memory; true where that cannot be known."""
  try:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    mappings = pathlib.Path("/proc/self/maps").read_bytes().count(b"\n")
  except OSError:
    return True
  resident = pages * os.sysconf("SC_PAGE_SIZE")
  return resident > MAX_RESIDENT_BYTES or mappings > MAX_MAPPINGS


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
  """Compiled programs serve later modules too, until all of them together fill gigabytes."""
  yield
  if _programs_crowd():
    jax.clear_caches()


def pytest_collection_finish() -> None:
  """Spares the garbage collector what stays to the end: modules and collected tests."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(100_000, 20, 20)  # tracing makes many objects, and few of them in cycles


@pytest.fixture(autouse=True, scope="session")
def _shared_models() -> None:
  share_models()
  start_quickly()


def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
  """Deletes a kept program that a killed run has damaged."""
  compile_cache.repair(str(warning_message.message), PROGRAMS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
  """Says what the tests cost: the time of the processor, workers and scripts under test included."""
  spent = os.times()
  cpu_s = spent.user + spent.system + spent.children_user + spent.children_system
  terminalreporter.write_line(f"{cpu_s / 60:.1f} CPU minutes")
  if terminalreporter.config.option.durations is None:
    return
  of_files: collections.Counter[str] = collections.Counter()
  for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
    if isinstance(report, pytest.TestReport):
      of_files[report.nodeid.partition("::")[0]] += report.duration
  terminalreporter.section("slowest files", sep="=")
  for name, seconds in of_files.most_common(10):
    terminalreporter.write_line(f"{seconds:7.2f}s {name}")
