"""Recurrent Perceiver models that watch one continuous stream and learn from it as it comes.

  import perceiver_stream
  model = perceiver_stream.build("stream_perceiver/tiny")

Packages: `types`, `nn`, `core`, `modalities`, `models`, `execution`, `zoo`, `streams`, `evaluation`,
`reporting`, `training`, `inference`, `lab`. They are imported when first used; importing
`perceiver_stream` loads no video decoder and no plotting.
"""

import importlib
import os
import pathlib
import sys
from typing import Any

from perceiver_stream.version import __version__ as __version__

if sys.version_info < (3, 12):
  # They have jaxlib 0.10, which logs each program that it takes from the compile cache as an error of
  # 2,000 characters. It reads this when it is imported; jax itself sets it to 1.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_ROOMS = (
  "core",
  "evaluation",
  "execution",
  "inference",
  "lab",
  "modalities",
  "models",
  "nn",
  "reporting",
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
    source: The folder of a run of `perceiver-stream train`; a file of weights, ours or published, or
      its address on the Hugging Face Hub, `"hf://OWNER/NAME"` (see `zoo.load`); or a name of the
      zoo, for the weights that are bundled with the package. Under other names weights are random,
      with a warning; use `build` for those.
    changes: Fields of the model's config to change: sizes that a published file does not say, or
      what no parameter depends on, such as `displacements`.

  Raises:
    FileNotFoundError: It is none of these.
    ValueError: A file is of no known kind, damaged, hostile, or does not fit; there is no such
      field, or the parameters do not fit the changed config.
  """
  loaded = importlib.import_module("perceiver_stream.inference").load(source, **changes)
  return loaded.model, loaded.params


def __getattr__(name: str) -> Any:
  if name in _ROOMS:
    return importlib.import_module(f"perceiver_stream.{name}")
  if name in _NAMES:
    return getattr(importlib.import_module(f"perceiver_stream.{_NAMES[name]}"), name)
  raise AttributeError(f"module 'perceiver_stream' has no attribute '{name}'")


def __dir__() -> list[str]:
  return __all__
