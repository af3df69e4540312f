"""Modules and names under their earlier import paths, with a warning, for one version."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from perceiver_stream.utils.warn import PACKAGE, warn


class MovedModules(MetaPathFinder, Loader):
  """Imports a moved module: `import old` returns the module at its new path.

  Attributes:
    places: New dotted names, keyed by old ones, both without the package's name.
  """

  def __init__(self, places: Mapping[str, str]):
    self.places = dict(places)

  def find_spec(
    self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
  ) -> ModuleSpec | None:
    """Returns a spec for the old name of a moved module."""
    known = fullname.removeprefix(f"{PACKAGE}.") in self.places
    return ModuleSpec(fullname, self) if known else None

  def exec_module(self, module: ModuleType) -> None:
    """Warns, and registers the module of the new path under the old name."""
    old = module.__name__
    new = f"{PACKAGE}.{self.places[old.removeprefix(f'{PACKAGE}.')]}"
    warn(f"{old} is now {new}; version 0.2 removes the old name.", DeprecationWarning)
    sys.modules[old] = importlib.import_module(new)


def install(places: Mapping[str, str]) -> None:
  """Makes moved modules importable under their old names."""
  sys.meta_path.append(MovedModules(places))


def moved_name(module: str, name: str, new: str) -> Any:
  """Returns the object now named `new` (dotted, relative to the package); the old name warns."""
  place, _, attribute = new.rpartition(".")
  warn(
    f"{module}.{name} is now {PACKAGE}.{new}; version 0.2 removes the old name.",
    DeprecationWarning,
  )
  return getattr(importlib.import_module(f"{PACKAGE}.{place}"), attribute)


def renamed_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
  """Returns a module's `__getattr__` that finds names of earlier versions, with a warning.

    __getattr__ = moved.renamed_names(__name__, {"MovieWriter": "reporting.video_writer.VideoWriter"})

  Args:
    module: `__name__` of the module.
    names: New dotted names, without the package's, by the module's old ones.
  """

  def find(name: str) -> Any:
    if name in names:
      return moved_name(module, name, names[name])
    raise AttributeError(f"module '{module}' has no attribute '{name}'")

  return find
