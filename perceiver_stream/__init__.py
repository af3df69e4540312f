"""Recurrent Perceiver models that watch one continuous stream and learn from it as it comes.

  import perceiver_stream
  model = perceiver_stream.build("stream_perceiver/tiny")

Rooms: `types`, `nn`, `core`, `modalities`, `models`, `zoo`, `streams`, `training`, `evaluation`.
They are imported when first used; importing the package loads no video decoder and no plotting.
"""

import importlib
from typing import Any

from perceiver_stream.version import __version__ as __version__

_ROOMS = ("core", "evaluation", "modalities", "models", "nn", "streams", "training", "types", "zoo")
_NAMES = {"build": "zoo", "config": "zoo", "names": "zoo"}

__all__ = ["__version__", *sorted((*_ROOMS, *_NAMES))]


def __getattr__(name: str) -> Any:
  if name in _ROOMS:
    return importlib.import_module(f"perceiver_stream.{name}")
  if name in _NAMES:
    return getattr(importlib.import_module(f"perceiver_stream.{_NAMES[name]}"), name)
  raise AttributeError(f"module 'perceiver_stream' has no attribute '{name}'")


def __dir__() -> list[str]:
  return __all__
