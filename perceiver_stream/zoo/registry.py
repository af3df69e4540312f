"""Families of one kind, and their variants by name.

The zoo has three kinds: recurrent models of a stream, encoders of clips and trackers of points.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from perceiver_stream.models.family import Record
from perceiver_stream.utils.suggest import did_you_mean

F = TypeVar("F", bound=Record[Any])


def families(packages: Iterable[str]) -> dict[str, Any]:
  """Returns the `FAMILY` of each package of `models`, by the name of the family."""
  records = (import_module(f"perceiver_stream.models.{name}").FAMILY for name in packages)
  return {record.name: record for record in records}


class Registry(Generic[F]):
  """Families of one kind.

  Args:
    families: Records by name; those added later count.
    kind: Noun of a variant in errors, such as "model".
  """

  def __init__(self, families: Mapping[str, F], kind: str):
    self._families, self._kind = families, kind

  def names(self) -> list[str]:
    """Returns the names of all variants, `"family/variant"`, sorted."""
    return sorted(
      f"{name}/{variant}" for name, f in self._families.items() for variant in f.variants
    )

  def config(self, name: str) -> Any:
    """Returns a new config of the named variant, which can be changed and passed to `build`.

    Raises:
      ValueError: There is none of that name; the message suggests the nearest.
    """
    known = self.names()
    if name not in known:
      raise ValueError(
        f"zoo: there is no {self._kind} '{name}'.{did_you_mean(name, known)} There are "
        f"{', '.join(known)}."
      )
    family, variant = name.split("/")
    return self._families[family].variants[variant]()

  def family(self, config: Any) -> F:
    """Returns the family whose configs have exactly the type of `config`.

    Raises:
      TypeError: There is none; a subclass of a family's config does not count.
    """
    for known in self._families.values():
      if type(config) is known.config:
        return known
    kind = type(config)
    raise TypeError(
      f"zoo: config of type {kind.__module__}.{kind.__qualname__} belongs to none of "
      f"{sorted(self._families)}; use the config of one of them, or add a family to PACKAGES."
    )

  def build(self, name_or_config: Any) -> Any:
    """Returns a model, encoder or tracker by name or config.

    Raises:
      ValueError: There is none of that name, or the config contradicts itself.
      TypeError: The config belongs to no family.
    """
    chosen = self.config(name_or_config) if isinstance(name_or_config, str) else name_or_config
    return self.family(chosen).build(chosen)

  def released(self, name: str) -> str:
    """Returns the name of the published file with a variant's weights; empty if none exists.

    Raises:
      ValueError: There is none of that name.
    """
    known, variant = self.family(self.config(name)), name.split("/")[1]
    file = known.released.get(variant)
    return f"{file} ({known.card.code})" if file else ""
