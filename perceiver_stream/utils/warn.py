"""Warnings that point at the caller's own line, not at ours."""

import inspect
import warnings

PACKAGE = __name__.partition(".")[0]


def warn(message: str, category: type[Warning]) -> None:
  """Warns at the line outside this package that led here.

  Python shows a DeprecationWarning only for lines of the script itself, so its place matters.
  """
  level, frame = 1, inspect.currentframe()
  while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
    level, frame = level + 1, frame.f_back
  warnings.warn(message, category, stacklevel=level)
