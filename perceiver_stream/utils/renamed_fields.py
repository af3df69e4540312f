"""Fields of configs under the names they had in earlier versions, for one version."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from perceiver_stream.utils.warn import warn

_TABLE = "_renamed_fields"  # attribute of a class, what `renamed_fields` was given


class Moved(NamedTuple):
  """The field of today for one of an earlier version.

  Attributes:
    path: Its name; dotted where it is a field of a field.
    values: Its value by the old one; old values that are not in it set nothing. None: the same.
  """

  path: str
  values: Mapping[Any, Any] | None = None


class _Gone:
  """An attribute that names its successor when it is read or set."""

  def __init__(self, message: str):
    self.message = message

  def __get__(self, instance: Any, owner: type) -> Any:
    raise AttributeError(self.message)

  def __set__(self, instance: Any, value: Any) -> None:
    raise AttributeError(self.message)


Kind = TypeVar("Kind", bound=type)


def renamed_fields(**moved: Moved) -> Callable[[Kind], Kind]:
  """Returns a decorator for a dataclass some of whose fields had other names.

  Objects can still be made with an old name, with a warning, and `files.codec` reads it from JSON.
  Reading or setting it on an object is an AttributeError that gives the new name.

  Args:
    moved: Fields of today by their old names; of two that set one field the later counts.
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
  """Returns the arguments of a dataclass of today from some with fields of earlier versions.

  Raises:
    TypeError: The value of an old field cannot be looked up, or set.
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
  """Returns the dotted name of today for an old field, and what its values are; empty if it is none."""
  table = getattr(kind, _TABLE, {})
  if name not in table:
    return ""
  path, values = table[name]
  return path + "".join(f", {old!r} is {new!r}" for old, new in (values or {}).items())
