"""Recurrent Perceiver models that watch one continuous stream and learn from it as it comes.

  import perceiver_stream
  model = perceiver_stream.build("stream_perceiver/tiny")

Rooms: `types`, `nn`, `core`, `modalities`, `models`, `execution`, `zoo`, `streams`, `training`,
`evaluation`, `lab`. They are imported when first used; importing the package loads no video decoder
and no plotting.
"""

import importlib
import pathlib
from typing import Any

from perceiver_stream.utils.paths import user_path
from perceiver_stream.version import __version__ as __version__

_ROOMS = (
  "core",
  "evaluation",
  "execution",
  "lab",
  "modalities",
  "models",
  "nn",
  "streams",
  "training",
  "types",
  "zoo",
)
_NAMES = {"build": "zoo", "config": "zoo", "names": "zoo", "save": "zoo"}

__all__ = ["__version__", "load", *_ROOMS, *_NAMES]  # pyright: ignore[reportUnsupportedDunderAll]
__all__.sort()


def load(source: str | pathlib.Path, **changes: Any) -> tuple[Any, Any]:
  """Returns `(model, params)` from wherever a model is.

  Args:
    source: The folder of a run of `scripts/train.py`; a file of weights, ours or published (see
      `zoo.load`); or a name of the zoo: with the weights that come with the package, or untrained.
    changes: Fields of the config that a published file does not say; only for files.

  Raises:
    FileNotFoundError: It is none of these.
    ValueError: A file is of no known kind, damaged, hostile, or does not fit.
  """
  path = user_path(source)
  if path.is_file() or (path.is_dir() and not (path / "checkpoints").is_dir()):
    return importlib.import_module("perceiver_stream.zoo").load(path, **changes)
  loaded = importlib.import_module("perceiver_stream.training").load(source)
  return loaded.model, loaded.params


def __getattr__(name: str) -> Any:
  if name in _ROOMS:
    return importlib.import_module(f"perceiver_stream.{name}")
  if name in _NAMES:
    return getattr(importlib.import_module(f"perceiver_stream.{_NAMES[name]}"), name)
  raise AttributeError(f"module 'perceiver_stream' has no attribute '{name}'")


def __dir__() -> list[str]:
  return __all__
