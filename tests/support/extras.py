"""Optional packages: a test that needs one is skipped without it, or fails where it must be there.

`make test` installs the extras that it names in the environment variable `REQUIRED`, so that
nothing is skipped there for want of one.
"""

import importlib.util
import os
import pathlib
import tomllib

import pytest
from packaging.requirements import Requirement

REQUIRED = "PERCEIVER_STREAM_REQUIRED_EXTRAS"  # with commas between
_PROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"
_DISTRIBUTIONS = {
  "rerun": "rerun-sdk",
  "skimage": "scikit-image",
  "tensorflow": "tensorflow-cpu",
  "tensorflow_datasets": "tensorflow-datasets",
  "tensorflow_io": "tensorflow-io",
}


def need(*modules: str) -> None:
  """Skips the test, or the module of tests that calls it, where an optional package is missing.

  The packages are not imported: some look for a screen.

  Args:
    *modules: Names to import, of packages in the extras of pyproject.toml.

  Raises:
    LookupError: No extra has such a package.
  """
  for module in modules:
    requirement, extra = _find(module)
    if importlib.util.find_spec(module) is not None:
      continue
    if requirement.marker and not requirement.marker.evaluate():
      pytest.skip(f"there is no {module} here ({requirement.marker})", allow_module_level=True)
    reason = f'{module} is not installed: pip install -e ".[{extra}]"'
    if extra in os.environ.get(REQUIRED, "").split(","):
      pytest.fail(f"{reason}; {REQUIRED} says that it is there.", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def _find(module: str) -> tuple[Requirement, str]:
  """Returns the requirement that gives a module, and the extra that has it."""
  extras = tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]
  for extra, lines in extras.items():
    for requirement in map(Requirement, lines):
      if requirement.name == _DISTRIBUTIONS.get(module, module):
        return requirement, extra
  raise LookupError(f"no extra of pyproject.toml has {module}")
