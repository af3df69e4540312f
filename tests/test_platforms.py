"""Releases of what we depend on: within the project's bounds, pinned, without known faults of XLA.

`constraints.txt` pins one release of each dependency for every supported Python.
"""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")

# jax-ml/jax#39103: float64 with 0.10.2 on a CPU gives thousands of wrong rows, float32 one.
SUMS_OF_PRODUCTS = """
import jax, jax.numpy as jnp, numpy as np
for dtype in (np.float32, np.float64):
  with jax.enable_x64(dtype == np.float64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32769, 3)).astype(dtype))
    square = jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=dtype) @ row) ** 2))
    expected = np.square(np.asarray(x)).sum(axis=1)
    for found in (square(x), jax.jit(square)(x)):
      np.testing.assert_allclose(found, expected, rtol=1e-4)
"""


def requirements(lines: list[str], python: str) -> dict[str, Requirement]:
  """Returns the requirements that hold for a version of Python, by normalised name."""
  environment = {**default_environment(), "python_version": python, "python_full_version": python}
  found = [Requirement(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]
  kept = [r for r in found if r.marker is None or r.marker.evaluate(environment)]
  assert len({normal(r.name) for r in kept}) == len(kept), "a name stands twice"
  return {normal(r.name): r for r in kept}


def normal(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


def pins(python: str) -> dict[str, Requirement]:
  return requirements((ROOT / "constraints.txt").read_text().splitlines(), python)


def test_sums_of_products_are_compiled_right() -> None:
  """As users compile: without the flags of these tests, in a process of its own."""
  clean = {
    k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
  }
  subprocess.run([sys.executable, "-c", SUMS_OF_PRODUCTS], check=True, env=clean, timeout=120)


@pytest.mark.parametrize("name", ["jax", "av", "orbax-checkpoint", "numpy"])
def test_what_is_installed_is_within_the_bounds(name: str) -> None:
  bounds = requirements(PROJECT["dependencies"], PYTHONS[0])[name].specifier
  assert bounds.contains(importlib.metadata.version(name)), f"{name}{bounds}"


@pytest.mark.parametrize("version", ["0.10.2", "0.11.0", "0.11.1"])
@pytest.mark.parametrize("extra", ["", "gpu", "tpu"])
def test_faulty_releases_of_jax_are_never_chosen(extra: str, version: str) -> None:
  lines = EXTRAS[extra] if extra else PROJECT["dependencies"]
  bounds = requirements(lines, PYTHONS[0])["jax"].specifier
  assert not bounds.contains(version) and bounds.contains("0.10.1") and bounds.contains("0.12.0.1")


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_bounds(python: str) -> None:
  pinned = pins(python)
  for group in ("", "dev", "tf", "sim", "viz", "eval", "docs"):
    for name, need in requirements(EXTRAS.get(group, PROJECT["dependencies"]), python).items():
      assert name in pinned, f"constraints.txt does not pin {name}"
      (pin,) = pinned[name].specifier
      assert pin.operator == "==" and need.specifier.contains(Version(pin.version)), name
  assert pinned["jax"].specifier == pinned["jaxlib"].specifier


def test_constraints_name_no_host() -> None:
  for line in (ROOT / "constraints.txt").read_text().splitlines():
    assert Requirement(line.partition("#")[0] or "none").url is None and "//" not in line
