"""Model configs in weights files: JSON, with limits on the sizes of a model."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

from perceiver_stream.files import codec

MAX_POINTS = (
  2**24
)  # pixels of the images that a model reads at once; published clips have 9 million
MAX_TABLE = 2**28  # numbers of a table of positions; the largest published model has 154 million
MAX_FIXED = 2**26  # numbers of a table that is computed; the largest published one has 50 million
MAX_LAYERS = 4096  # sum over all parts
# Fields of configs that are sides of an image or a grid.
SIDES = ("num_frames", "height", "width")
GRIDS = ("base_grid", "canvas", "initial_size", "latent_grid", "table")
DEPTHS = ("num_layers", "num_iterations", "num_mixers", "num_extra")


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
  bands = max(_values(config, "num_bands"), default=1)
  for part in _parts(config):
    for sides in _sizes(part):
      points = math.prod(sides.values())
      if points > MAX_POINTS or points * bands > MAX_TABLE:
        raise ValueError(
          f"{source}: refused: images of {sides} with {bands} bands of positions; the most are "
          f"{MAX_POINTS} points, and {MAX_TABLE} numbers."
        )
    if (numbers := getattr(part, "table_numbers", 0)) > MAX_FIXED:
      raise ValueError(
        f"{source}: refused: tables of positions with {numbers} numbers; the most are {MAX_FIXED}."
      )
  layers = sum(sum(_values(config, name)) for name in DEPTHS)
  if layers > MAX_LAYERS:
    raise ValueError(f"{source}: refused: {layers} layers in all; the most are {MAX_LAYERS}.")


def _sizes(part: Any) -> Iterator[dict[str, int]]:
  """Yields the sides of the images and grids of one part of a config."""
  yield {name: getattr(part, name, 1) for name in SIDES}
  for name in GRIDS:
    if grid := getattr(part, name, None):
      yield {f"{name}[{i}]": side for i, side in enumerate(grid)}


def _values(config: Any, name: str) -> Iterator[int]:
  """Yields the values of all fields with a name, nested ones included."""
  return (getattr(part, name) for part in _parts(config) if hasattr(part, name))


def _parts(config: Any) -> Iterator[Any]:
  """Yields a config and the configs nested in it, in containers too."""
  if dataclasses.is_dataclass(config):
    yield config
    config = [getattr(config, f.name) for f in dataclasses.fields(config)]
  inner = config.values() if isinstance(config, dict) else config
  for part in inner if isinstance(config, dict | list | tuple) else ():
    yield from _parts(part)
