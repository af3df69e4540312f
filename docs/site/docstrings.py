"""Docstrings of this project, whose text is Markdown, as reStructuredText for Sphinx.

Text before the sections (`Args:`, `Returns:`, ...) is read block by block: an indented block and a
table are shown as they are, a block with hanging indents is a list, the rest are paragraphs.
Sections are left to napoleon; only the marks within their lines are translated.
"""

import functools
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
_CODE = re.compile(r"(`+)(.+?)\1(\w?)", re.DOTALL)
_MARKS = re.compile(r"[*|\\]|_(?=_*(?!\w))")  # an underscore at the end of a word is a link
_COMMANDS = ("python ", "pip ", "make ")
_BOUNDS = re.compile(r"Annotated\[([^\[\],]+), Range\([^)]*\)\]")
_METHODS = (property, functools.cached_property, classmethod, staticmethod)
_FIELD = "Alias for field number"  # what Python writes about a field of a NamedTuple


def to_rst(lines: Sequence[str]) -> list[str]:
  """Returns a docstring of this project, line by line, for napoleon and Sphinx."""
  sections = next((n for n, line in enumerate(lines) if _SECTION.match(line)), len(lines))
  text: list[str] = []
  for empty, block in groupby(lines[:sections], key=lambda line: not line.strip()):
    text += [""] if empty else _block(list(block))
  return text + _inline(lines[sections:])


def _block(lines: list[str]) -> list[str]:
  """Returns the lines of a block, which has no empty line."""
  if lines[0].startswith(">>> "):
    return lines
  if lines[0].startswith(" ") or lines[0].startswith("|"):
    language = "text" if lines[0].strip().startswith((*_COMMANDS, "|")) else "python"
    return [f".. code-block:: {language}", "  :force:", "", *("  " + x for x in lines), ""]
  listed = lines[0].startswith("- ")
  if not listed and any(line.startswith(" ") for line in lines):
    lines = [f"  {x}" if x.startswith(" ") else f"- {x}" for x in lines]
  return _inline(lines)


def _inline(lines: Sequence[str]) -> list[str]:
  """Returns lines with code in pairs of backticks, and other marks of reStructuredText escaped."""
  text, parts, end = "\n".join(lines), [], 0
  for match in _CODE.finditer(text):
    parts.append(_MARKS.sub(r"\\\g<0>", text[end : match.start()]))
    parts.append(f"``{match[2]}``" + (f"\\ {match[3]}" if match[3] else ""))
    end = match.end()
  parts.append(_MARKS.sub(r"\\\g<0>", text[end:]))
  return "".join(parts).split("\n") if lines else []


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
  lines[:] = to_rst(lines)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
  """Leaves out the fields of classes, which the docstring of the class describes."""
  is_alias = (getattr(obj, "__doc__", "") or "").startswith(_FIELD)
  is_value = what == "class" and not callable(obj) and not isinstance(obj, _METHODS)
  return True if is_alias or is_value else None


def _sign(app: Any, what: str, name: str, obj: Any, options: Any, *texts: str | None) -> Any:
  """Shortens the types of a signature and of what it returns."""
  return tuple(text and short_types(text) for text in texts)


def short_types(signature: str) -> str:
  """Returns a signature without the bounds of numbers and the private modules of arrays.

  >>> short_types("(n: Annotated[int, Range(least=1)] = 4, x: Float[jaxlib._jax.Array, 'B D'])")
  "(n: int = 4, x: Float[Array, 'B D'])"
  """
  return _BOUNDS.sub(r"\1", signature).replace("jaxlib._jax.", "")


def setup(app: Sphinx) -> dict[str, Any]:
  """Runs before napoleon, which reads the sections."""
  app.connect("autodoc-process-docstring", _process, priority=400)
  app.connect("autodoc-process-signature", _sign)
  app.connect("autodoc-skip-member", _skip)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
