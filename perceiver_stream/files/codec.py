"""Configs to and from JSON: nested dataclasses of this package by name, validated on reading.

A dataclass becomes an object with its fields and, under `TYPE`, its public path. Only dataclasses
of this package and registered ones are created, and every value must have the type and the range
that its field declares; see `types.Range`. The forms `{"class": "models.moog:Config", ...}` and
`{"dict": {...}}` of older weights are also read, and fields under old names (`utils.renamed_fields`).
"""

import dataclasses
import functools
import importlib
import sys
import typing
from collections.abc import Mapping
from typing import Any

from perceiver_stream.files import limits
from perceiver_stream.files.checking import check_value, is_float
from perceiver_stream.utils.renamed_fields import updated
from perceiver_stream.utils.suggest import did_you_mean

TYPE = "_type"
PACKAGE = "perceiver_stream."
_REGISTERED: dict[type, str] = {}  # dataclasses of other packages, keyed by their names in JSON
# Current modules of configs, keyed by the module that older files name.
_MOVED = {
  "models.moog_readouts": "models.moog.readouts",
  "models.perceiver_autoencoder": "models.perceiver_io.autoencoder",
  "models.perceiver_classifier": "models.perceiver_io.classifier",
  "models.perceiver_flow": "models.perceiver_io.flow",
  "training.logs": "training.config",
  "training.objectives.masked_future": "models.rvm.objective",
  "training.objectives.next_frame": "models.moog.objective",
} | {
  f"models.{name}": f"models.frame_predictors.{name}"
  for name in ("conv3d", "image_rnn", "trecvit", "video_autoencoder")
}
_ROOMS = ("core", "models", "modalities", "nn", "streams", "training")


def register(name: str, kind: type) -> None:
  """Makes a dataclass of another package readable under a name; a later call replaces it.

  Args:
    name: Value of `TYPE` in JSON.
    kind: The dataclass.
  """
  _REGISTERED.pop(kind, None)
  _REGISTERED[kind] = name


def to_dict(value: Any) -> Any:
  """Returns `value` as an object that JSON can represent; dataclasses become dicts.

  Raises:
    TypeError: It contains a value that JSON cannot represent.
  """
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    kind = type(value)
    names = [f.name for f in dataclasses.fields(value)]
    return {TYPE: _REGISTERED.get(kind) or type_name(kind)} | {
      name: to_dict(getattr(value, name)) for name in names
    }
  if isinstance(value, Mapping):
    return {str(k): to_dict(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_dict(v) for v in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  raise TypeError(f"config holds a {type(value).__name__}, {value!r}, which JSON cannot keep.")


def type_name(kind: type) -> str:
  """Returns the public path of a type, as written to files: the shortest package that exports it.

  A class can therefore move between the files of its package.

  >>> from perceiver_stream.models.moog.config import Config
  >>> type_name(Config)
  'perceiver_stream.models.moog.Config'
  """
  module = kind.__module__
  while "." in module:
    parent = module.rpartition(".")[0]
    if getattr(sys.modules.get(parent), kind.__qualname__, None) is not kind:
      break
    module = parent
  return f"{module}.{kind.__qualname__}"


def from_dict(value: Any, where: str = "config") -> Any:
  """Returns the object for an output of `to_dict`; lists become tuples.

  Raises:
    ValueError: A key, type or value does not match its dataclass; the message has its path.
  """
  if isinstance(value, list):
    return tuple(from_dict(v, f"{where}[{i}]") for i, v in enumerate(value))
  if not isinstance(value, Mapping):
    return value
  if set(value) == {"dict"} and isinstance(value["dict"], Mapping):
    return from_dict(value["dict"], where)
  if "class" in value and TYPE not in value:
    value = {TYPE: _modern(value["class"])} | {k: v for k, v in value.items() if k != "class"}
  fields = {k: from_dict(v, f"{where}.{k}") for k, v in value.items() if k != TYPE}
  return _make(_find(value[TYPE], where), fields, where) if TYPE in value else fields


def from_json(text: str, where: str = "config") -> Any:
  """Returns the config in JSON text; see `from_dict`.

  Raises:
    ValueError: The text is not JSON, nests too deeply, or is refused by `from_dict`.
  """
  try:
    return from_dict(limits.parse_json(text, where), where)
  except RecursionError as error:
    raise ValueError(f"{where} nests too deeply for a config.") from error


def unknown_key(path: str, valid: list[str]) -> str:
  """Returns the message for a key that the config does not have.

  >>> unknown_key("config.stream.pth", ["path", "rate_hz"])
  "config.stream has no key 'pth'. Did you mean 'path'? Valid: path, rate_hz."
  """
  parent, _, name = path.rpartition(".")
  return f"{parent} has no key {name!r}.{did_you_mean(name, valid)} Valid: {', '.join(valid)}."


def check(config: Any, where: str = "config") -> None:
  """Raises ValueError, with the path, if a field of a config does not match its declaration."""
  for name, hint in _hints(type(config)).items():
    value = getattr(config, name)
    check_value(value, hint, f"{where}.{name}")
    if dataclasses.is_dataclass(value):
      check(value, f"{where}.{name}")
    elif isinstance(value, Mapping):
      for key, item in value.items():
        if dataclasses.is_dataclass(item):
          check(item, f"{where}.{name}.{key}")


def _make(kind: type, fields: dict[str, Any], where: str) -> Any:
  hints = _hints(kind)
  try:
    today = updated(kind, fields)
    for name, value in today.items():
      if name not in hints:
        raise ValueError(unknown_key(f"{where}.{name}", list(hints)))
      check_value(value, hints[name], f"{where}.{name}")
      if type(value) is int and is_float(hints[name]):
        today[name] = float(value)
      if name not in fields and dataclasses.is_dataclass(value):
        check(value, f"{where}.{name}")  # made of old fields
    return kind(**today)
  except (TypeError, ArithmeticError, LookupError, AttributeError) as error:
    raise ValueError(f"{where}: no {kind.__qualname__} can be made of it ({error}).") from error


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
  """Returns the declared types of a dataclass's fields, by name."""
  try:
    hints = typing.get_type_hints(kind, include_extras=True)
  except (NameError, TypeError):  # a registered class with type-checker-only imports
    hints = {field.name: Any for field in dataclasses.fields(kind)}
  return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _modern(name: Any) -> str:
  """Returns a type's name as `to_dict` writes it, from the name in older weights."""
  return f"{PACKAGE}{name.replace(':', '.')}" if isinstance(name, str) else str(name)


def _find(path: Any, where: str) -> type:
  registered = {name: kind for kind, name in _REGISTERED.items()}
  if isinstance(path, str) and path in registered:
    return registered[path]
  module, _, name = str(path).rpartition(".")
  module = PACKAGE + _MOVED.get(module.removeprefix(PACKAGE), module.removeprefix(PACKAGE))
  if not str(path).startswith(PACKAGE) or module.split(".")[1:2][0] not in _ROOMS:
    raise ValueError(
      f"{where}: type {path!r} is not from {PACKAGE[:-1]}, so it is not loaded; if it names "
      f"your own objective, import the module that registers it (objectives.register) first, or "
      f"give the --config file that does."
    )
  try:
    kind = getattr(importlib.import_module(module), name)
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f"{where}: there is no type {path!r} in this version ({error}); "
      f"load the config with the version that wrote it."
    ) from error
  if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
    raise ValueError(f"{where}: {path!r} is not a config; the file was not written by to_json.")
  return kind
