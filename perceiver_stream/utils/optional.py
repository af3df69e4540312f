"""Packages of the extras, imported where they are used, so that they can live in one process."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

# TensorFlow opens its libraries for the whole process (RTLD_GLOBAL) where this module of it can be
# imported; they find each other without it.
_GLOBAL_SYMBOLS = "tensorflow.python.pywrap_dlopen_global_flags"


def require(package: str, extra: str) -> Any:
  """Returns a package of an extra.

  TensorFlow and Mesa, which draws for MuJoCo without a graphics card, both bring an LLVM. A library
  that calls the other's crashes the process. So TensorFlow is imported with its symbols to itself,
  and where Mesa may have been loaded before, with its own symbols first.

  Raises:
    ImportError: It is not installed; the message says how to install it.
  """
  try:
    with _own_symbols():
      return importlib.import_module(package)
  except ImportError as error:
    raise ImportError(
      f'{package} is not there ({error}); pip install "perceiver_stream[{extra}]".'
    ) from error


def has_global_tensorflow() -> bool:
  """Returns whether TensorFlow was imported in a way that crashes Mesa."""
  return sys.modules.get(_GLOBAL_SYMBOLS) is not None


@contextlib.contextmanager
def _own_symbols() -> Iterator[None]:
  sys.modules.setdefault(_GLOBAL_SYMBOLS, None)  # type: ignore[arg-type]
  if "mujoco" not in sys.modules or not hasattr(os, "RTLD_DEEPBIND"):
    yield
    return
  flags = sys.getdlopenflags()
  sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
  try:
    yield
  finally:
    sys.setdlopenflags(flags)
