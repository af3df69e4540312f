"""Strict settings for every test, set before jax makes its first array."""

import importlib.metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two devices, for the mesh. Tests run each program once or twice: compile fast, not well.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
  " --xla_force_host_platform_device_count=2"
  " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones exit at an unknown flag
  # The emitters write better programs, in twice the time.
  os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
# Modules, workers and the scripts under test share what they compile, and so does the next run.
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache/jax")
)
# Without JAX's own bound: a killed process can leave an entry after which it stores nothing more.
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

from collections.abc import Iterator

import jax
import pytest

from perceiver_stream.utils import compile_cache

if "PYTEST_XDIST_WORKER" not in os.environ:
  programs = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
  programs.mkdir(parents=True, exist_ok=True)
  compile_cache.prune(programs, 2**31)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
  """Compiled programs of a module are dropped after it: all of them together fill gigabytes."""
  yield
  jax.clear_caches()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
  """Says what the tests cost: the time of the processor, workers and scripts under test included."""
  spent = os.times()
  cpu_s = spent.user + spent.system + spent.children_user + spent.children_system
  terminalreporter.write_line(f"{cpu_s / 60:.1f} CPU minutes")
