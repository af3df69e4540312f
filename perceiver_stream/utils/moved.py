"""Modules and names under the places they had in earlier versions, with a warning, for one version."""

import importlib
import sys
from collections.abc import Iterable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from perceiver_stream.utils.warn import PACKAGE, warn


class MovedModules(MetaPathFinder, Loader):
  """Imports a module that was moved: `import old` gives the module at its new place.

  Attributes:
    places: New dotted names by old ones, both without the package's.
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
    """Warns, and puts the module at the new place under the old name."""
    old = module.__name__
    new = f"{PACKAGE}.{self.places[old.removeprefix(f'{PACKAGE}.')]}"
    warn(f"{old} is now {new}; version 0.2 will not know the old name.", DeprecationWarning)
    sys.modules[old] = importlib.import_module(new)


def install(places: Mapping[str, str]) -> None:
  """Makes moved modules importable under their old names."""
  sys.meta_path.append(MovedModules(places))


def moved_name(module: str, name: str, new: str) -> Any:
  """Returns what is now `new` (dotted, without the package's name), with a warning on the old name."""
  place, _, attribute = new.rpartition(".")
  warn(
    f"{module}.{name} is now {PACKAGE}.{new}; version 0.2 will not know the old name.",
    DeprecationWarning,
  )
  return getattr(importlib.import_module(f"{PACKAGE}.{place}"), attribute)
