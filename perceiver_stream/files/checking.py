"""Checks of values against the type and range that a dataclass's field declares."""

import collections.abc
import dataclasses
import math
import types
import typing
from typing import Annotated, Any

from perceiver_stream.types import Range

MAX_ITEMS = 512  # in a tuple or a dict of a config: layers, modalities, displacements
_INT = Range(-(2**32), 2**32)
_FLOAT = Range(-1e30, 1e30)
_SEQUENCES = (tuple, list, collections.abc.Sequence)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def check_value(value: Any, hint: Any, where: str) -> None:
  """Checks a value and its items, but not the fields of dataclasses in it.

  Args:
    value: Value to check.
    hint: A declared type: numbers, texts, `Literal` texts, dataclasses, tuples and dicts of them,
      unions, `Any`; `Annotated` with a `Range`.
    where: Path of the value in the config, for messages.

  Raises:
    ValueError: It has another type, is out of range or not finite, or has too many items.
  """
  if not _fits(value, hint):
    raise ValueError(f"{where} is {_shown(value)}; expected {words(hint)}.")


def words(hint: Any) -> str:
  """Returns a declared type in words.

  >>> words(tuple[Annotated[int, Range(1, 9)], ...] | None)
  'a list of (a whole number from 1 to 9), or none'
  """
  base, bounds = _split(hint)
  if base is int and bounds or base is float and bounds:
    least, most = (f"{x:g}" if isinstance(x, float) else str(x) for x in bounds[0])
    return f"{_WORDS[base]} from {least} to {most}"
  if base in _WORDS:
    return _WORDS[base]
  if base in (None, type(None)):
    return "none"
  if base is Any:
    return "finite numbers, texts, or a config"
  origin, inner = typing.get_origin(base), typing.get_args(base)
  if origin is typing.Literal:
    return f"one of {', '.join(map(repr, inner))}"
  if origin in (typing.Union, types.UnionType):
    return ", or ".join(words(option) for option in inner)
  if origin in _SEQUENCES or base in _SEQUENCES:
    number = "" if not inner or ... in inner or origin is not tuple else f"{len(inner)} "
    return f"a list of {number}({words(inner[0]) if inner else 'values'})"
  if origin in (dict, collections.abc.Mapping) or base is dict:
    return f"an object of ({words(inner[1]) if inner else 'values'})"
  return f"a {base.__module__.removeprefix('perceiver_stream.')}.{base.__qualname__}"


def is_float(hint: Any) -> bool:
  """Returns True if a declared type is float, with or without a range."""
  return _split(hint)[0] is float


def _split(hint: Any) -> tuple[Any, list[Range]]:
  """Returns a type and its ranges."""
  if typing.get_origin(hint) is not Annotated:
    return hint, []
  base, *extras = typing.get_args(hint)
  return base, [extra for extra in extras if isinstance(extra, Range)]


def _fits(value: Any, hint: Any) -> bool:
  base, bounds = _split(hint)
  if base is int:
    return type(value) is int and all(least <= value <= most for least, most in bounds or [_INT])
  if base is float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return good and all(least <= value <= most for least, most in bounds or [_FLOAT])
  if base in (None, type(None)):
    return value is None
  if base is Any:
    return _fits_any(value)
  origin, inner = typing.get_origin(base), typing.get_args(base)
  if origin is typing.Literal:
    return isinstance(value, str) and value in inner
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, option) for option in inner)
  if origin in _SEQUENCES or base in _SEQUENCES:
    return isinstance(value, tuple | list) and _fits_items(value, inner)
  if origin in (dict, collections.abc.Mapping) or base is dict:
    good = isinstance(value, collections.abc.Mapping) and len(value) <= MAX_ITEMS
    return good and all(
      isinstance(key, str) and _fits(item, inner[1] if inner else Any)
      for key, item in value.items()
    )
  return isinstance(value, origin or base)


def _fits_items(value: tuple | list, inner: tuple[Any, ...]) -> bool:
  if len(value) > MAX_ITEMS:
    return False
  hints = [inner[0] if inner else Any] * len(value)
  if inner and ... not in inner and len(inner) > 1:
    hints = list(inner)
  return len(hints) == len(value) and all(map(_fits, value, hints))


def _fits_any(value: Any) -> bool:
  if isinstance(value, float):
    return math.isfinite(value)
  if type(value) is int:
    return _INT.least <= value <= _INT.most
  if isinstance(value, tuple | list):
    return len(value) <= MAX_ITEMS and all(map(_fits_any, value))
  if isinstance(value, collections.abc.Mapping):
    return len(value) <= MAX_ITEMS and all(map(_fits_any, value.values()))
  return True


def _shown(value: Any) -> str:
  """Returns a value short enough for a message."""
  if dataclasses.is_dataclass(value):
    return (
      f"a {type(value).__module__.removeprefix('perceiver_stream.')}.{type(value).__qualname__}"
    )
  if isinstance(value, tuple | list):
    shown = ", ".join(map(_shown, value[:8]))
    return f"[{shown}{', ...' if len(value) > 8 else ''}]"
  if isinstance(value, collections.abc.Mapping):
    return f"an object of {len(value)} keys"
  shown = (
    repr(value)
    if not isinstance(value, int) or abs(value) < 10**60
    else f"{value.bit_length()} bits"
  )
  return shown if len(shown) <= 80 else f"{shown[:77]}..."
