"""Warnings that point at the user's line instead of a line of this package."""

import inspect
import warnings
from types import FrameType

PACKAGE = __name__.partition(".")[0]


def warn(message: str, category: type[Warning]) -> None:
  """Warns at the innermost line outside this package.

  Python shows a DeprecationWarning only for lines of the script itself, so its location matters.
  """
  level, frame = 1, inspect.currentframe()
  while frame is not None and (_imports(frame) or _is_ours(frame)):
    level += not _imports(frame)  # Python does not count frames of the import machinery either
    frame = frame.f_back
  warnings.warn(message, category, stacklevel=level)


def _is_ours(frame: FrameType) -> bool:
  return frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE


def _imports(frame: FrameType) -> bool:
  return "importlib._bootstrap" in frame.f_code.co_filename
