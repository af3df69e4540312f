"""Renamed fields of configs: old names are accepted for one version."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from perceiver_stream.utils.warn import warn

_TABLE = "_renamed_fields"  # class attribute with the arguments of `renamed_fields`


class Moved(NamedTuple):
  """The current field for one of an earlier version.

  Attributes:
    path: Name of the current field; dotted if it is nested.
    values: New values, keyed by old ones; other old values set nothing. None: the same value.
  """

  path: str
  values: Mapping[Any, Any] | None = None


class _Gone:
  """An attribute whose use raises an error with the new name."""

  def __init__(self, message: str):
    self.message = message

  def __get__(self, instance: Any, owner: type) -> Any:
    raise AttributeError(self.message)

  def __set__(self, instance: Any, value: Any) -> None:
    raise AttributeError(self.message)


Kind = TypeVar("Kind", bound=type)


def renamed_fields(**moved: Moved) -> Callable[[Kind], Kind]:
  """Returns a decorator for a dataclass with renamed fields.

  The constructor accepts old names with a warning, and `files.codec` reads them from JSON. Reading or
  setting an old name of an object is an AttributeError with the new name.

  Args:
    moved: Current fields, keyed by old names; if two set the same field, the later one is used.
  """

  def decorate(kind: Kind) -> Kind:
    setattr(kind, _TABLE, moved)
    message = {n: f"{kind.__qualname__}.{n} is now {successor(kind, n)}" for n in moved}
    make = kind.__init__

    @functools.wraps(make)
    def __init__(self: Any, *args: Any, **fields: Any) -> None:
      for name in moved.keys() & fields.keys():
        warn(f"{message[name]}; version 0.2 will not know the old name.", DeprecationWarning)
      make(self, *args, **updated(kind, fields))

    kind.__init__ = __init__
    for name in moved:
      setattr(kind, name, _Gone(f"{message[name]}."))
    return kind

  return decorate


def updated(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the arguments of a dataclass, with fields of earlier versions converted.

  Raises:
    TypeError: The value of an old field cannot be converted.
  """
  fields, known = dict(fields), {f.name: f for f in dataclasses.fields(kind)}
  for name, (path, values) in getattr(kind, _TABLE, {}).items():
    if name not in fields:
      continue
    value, (field, _, inner) = fields.pop(name), path.partition(".")
    if values is not None and value not in values:
      continue
    value = value if values is None else values[value]
    if inner:
      whole = fields[field] if field in fields else known[field].default_factory()  # type: ignore[misc]
      value = dataclasses.replace(whole, **{inner: value})
    fields[field] = value
  return fields


def successor(kind: type, name: str) -> str:
  """Returns the current dotted name of an old field, with its values; empty if there is none."""
  table = getattr(kind, _TABLE, {})
  if name not in table:
    return ""
  path, values = table[name]
  return path + "".join(f", {old!r} is {new!r}" for old, new in (values or {}).items())
