"""Import of optional packages such that they work together in one process."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

# TensorFlow loads its libraries for the whole process (RTLD_GLOBAL) if it can import this module;
# they find each other without it.
_GLOBAL_SYMBOLS = "tensorflow.python.pywrap_dlopen_global_flags"


def require(package: str, extra: str) -> Any:
  """Returns the imported package of an extra.

  TensorFlow and Mesa (MuJoCo's software renderer) each contain an LLVM. A library that calls the
  other's LLVM crashes the process. TensorFlow is therefore imported with local symbols and, if Mesa
  may already be loaded, with its own symbols first.

  Raises:
    ImportError: It is not installed; the message has the command that installs it.
  """
  try:
    with _own_symbols():
      return importlib.import_module(package)
  except ImportError as error:
    raise ImportError(
      f'{package} is not there ({error}); pip install "perceiver_stream[{extra}]".'
    ) from error


def has_global_tensorflow() -> bool:
  """Returns True if TensorFlow was imported with global symbols, which crash Mesa."""
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
