"""Model configs as JSON and back: nested dataclasses by name, nothing else."""

import dataclasses
import importlib
import json
from typing import Any

_ROOMS = ("models", "core", "modalities", "nn")


def to_json(config: Any) -> str:
  """Returns a config as JSON that `from_json` reads."""
  return json.dumps(_encode(config))


def from_json(text: str, source: str = "config") -> Any:
  """Returns the config that `to_json` wrote; only our own dataclasses are made.

  Raises:
    ValueError: It names something else, or fields that its class does not have.
  """
  try:
    return _decode(json.loads(text), source)
  except (json.JSONDecodeError, TypeError) as error:
    raise ValueError(f"{source}: not a config of this version ({error}).") from error


def _encode(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    kind = type(value)
    return {
      "class": f"{kind.__module__.removeprefix('perceiver_stream.')}:{kind.__name__}"
    } | fields
  if isinstance(value, dict):
    return {"dict": {k: _encode(v) for k, v in value.items()}}
  return [_encode(v) for v in value] if isinstance(value, list | tuple) else value


def _decode(value: Any, source: str) -> Any:
  if isinstance(value, list):
    return tuple(_decode(v, source) for v in value)
  if not isinstance(value, dict):
    return value
  if set(value) == {"dict"}:
    return {k: _decode(v, source) for k, v in value["dict"].items()}
  fields = {k: _decode(v, source) for k, v in value.items() if k != "class"}
  return _find(str(value.get("class")), source)(**fields)


def _find(name: str, source: str) -> type:
  module, _, kind = name.partition(":")
  if module.split(".")[0] in _ROOMS and all(part.isidentifier() for part in module.split(".")):
    try:
      found = getattr(importlib.import_module(f"perceiver_stream.{module}"), kind, None)
    except ModuleNotFoundError:
      found = None
    if isinstance(found, type) and dataclasses.is_dataclass(found):
      return found
  raise ValueError(f"{source}: '{name}' is not the config of a model of this version.")
