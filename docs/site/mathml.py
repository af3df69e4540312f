"""A math renderer for Sphinx that writes MathML while building: pages need no script to show it.

Formulas that docutils cannot translate are warnings, and so errors of a strict build.
"""

import html
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def to_mathml(tex: str, node: nodes.Node | None, as_block: bool) -> str:
  """Returns `tex` as MathML; with a warning at `node`, the formula itself where it has an error."""
  try:
    return tex2mathml(tex, as_block=as_block)
  except MathError as error:
    logger.warning("formula %r: %s", tex, error, location=node, type="mathml")
    return f"<code>{html.escape(tex)}</code>"


def visit_math(writer: Any, node: nodes.math) -> None:
  """Writes a formula inside a line."""
  writer.body.append(to_mathml(node.astext(), node, as_block=False))
  raise nodes.SkipNode


def visit_math_block(writer: Any, node: nodes.math_block) -> None:
  """Writes a formula of its own, which scrolls where the page is too narrow."""
  writer.body.append(
    f'<div class="math" style="overflow-x: auto">{to_mathml(node.astext(), node, as_block=True)}</div>'
  )
  raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
  """Registers the renderer as `mathml`."""
  app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}
