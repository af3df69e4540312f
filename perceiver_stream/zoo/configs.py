"""Model configs as JSON and back: nested dataclasses by name, nothing else."""

import dataclasses
import importlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_ROOMS = ("models", "core", "modalities", "nn")


def to_json(config: Any) -> str:
  """Returns a config as JSON that `from_json` reads."""
  return json.dumps(_encode(config))


def from_json(text: str, source: str = "config") -> Any:
  """Returns the config that `to_json` wrote; only our own dataclasses are made.

  Raises:
    ValueError: It names something else, fields that its class does not have, or absurd sizes.
  """
  try:
    config = _decode(json.loads(text), source)
  except (json.JSONDecodeError, TypeError, RecursionError) as error:
    raise ValueError(f"{source}: not a config of this version ({error}).") from error
  check_sizes(config, source)
  return config


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


# --- sizes out of files -----------------------------------------------------------------------------

MOST_LAYERS, MOST_SIZE, MOST_POINTS = 512, 2**24, 2**22


def check_sizes(config: Any, source: str) -> None:
  """Refuses sizes with which building the model would take all memory or never end.

  Raises:
    ValueError: A size is beyond any model's; it is named.
  """
  for name, value in _integers(config, ""):
    most = MOST_LAYERS if re.search(r"(layers|blocks)$", name) else MOST_SIZE
    if abs(value) > most:
      raise ValueError(f"{source}: refused: config{name} = {value} is more than {most}.")
  sides = [getattr(config, n, 1) for n in ("num_frames", "height", "width")]
  if math.prod(side for side in sides if isinstance(side, int)) > MOST_POINTS:
    raise ValueError(f"{source}: refused: pictures of {sides} are more than {MOST_POINTS} points.")


def _integers(value: Any, name: str) -> Iterator[tuple[str, int]]:
  if dataclasses.is_dataclass(value):
    for field in dataclasses.fields(value):
      yield from _integers(getattr(value, field.name), f"{name}.{field.name}")
  elif isinstance(value, Mapping):
    for key, item in value.items():
      yield from _integers(item, f"{name}[{key!r}]")
  elif isinstance(value, tuple | list):
    if len(value) > MOST_LAYERS:
      yield f"{name}: number of layers", len(value)
    for item in value:
      yield from _integers(item, name)
  elif isinstance(value, int):
    yield name, value
