"""Model configs in weights files: JSON, with limits on the sizes of a model."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

from perceiver_stream.files import codec

MAX_POINTS = 2**22  # pixels of the images that a model reads at once
MAX_TABLE = 2**28  # pixels times position bands; the largest published model has 154 million
MAX_LAYERS = 4096  # sum over all parts


def to_json(config: Any) -> str:
  """Returns a config as JSON that `from_json` reads."""
  return json.dumps(codec.to_dict(config))


def from_json(text: str, source: str = "config") -> Any:
  """Returns the config in the output of `to_json`, of this version or an older one.

  Raises:
    ValueError: It does not describe a model's config, a field is unknown, a value has another type
      or is out of range, or the model would be too large to build.
  """
  config = codec.from_json(text, f"{source}: config")
  if not dataclasses.is_dataclass(config):
    raise ValueError(f"{source}: a {type(config).__name__} instead of the config of a model.")
  check_sizes(config, source)
  return config


def check_sizes(config: Any, source: str) -> None:
  """Refuses sizes for which building the model would exhaust memory or take unbounded time.

  Raises:
    ValueError: A field is out of its range, or the combined sizes exceed the limits.
  """
  codec.check(config, f"{source}: config")
  sides = {n: getattr(config, n, 1) for n in ("num_frames", "height", "width")}
  points, bands = math.prod(sides.values()), max(_values(config, "num_bands"), default=1)
  if points > MAX_POINTS or points * bands > MAX_TABLE:
    raise ValueError(
      f"{source}: refused: images of {sides} with {bands} bands of positions; the most are "
      f"{MAX_POINTS} points, and {MAX_TABLE} numbers."
    )
  layers = sum(_values(config, "num_layers"))
  if layers > MAX_LAYERS:
    raise ValueError(f"{source}: refused: {layers} layers in all; the most are {MAX_LAYERS}.")


def _values(config: Any, name: str) -> Iterator[int]:
  """Yields the values of all fields with a name, nested ones included."""
  parts = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
  for key, value in parts.items():
    for part in value.values() if isinstance(value, dict) else (value,):
      if dataclasses.is_dataclass(part):
        yield from _values(part, name)
      elif key == name:
        yield part
