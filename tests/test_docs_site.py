"""What the documentation site adds to Sphinx; `make docs` builds the site itself, strictly."""

import importlib.util
import logging
import pathlib
import types

import extras
import pytest

extras.need("sphinx")

SITE = pathlib.Path(__file__).parents[1] / "docs" / "site"


def load(name: str) -> types.ModuleType:
  spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


docstrings, mathml = load("docstrings"), load("mathml")


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("Reads `x`s and `y`.", "Reads ``x``\\ s and ``y``."),
    ("A `long\nname` here.", "A ``long\nname`` here."),
    ("W * x, |x| and x_ of `*a`", "W \\* x, \\|x\\| and x\\_ of ``*a``"),
    ("x_t and __init__ stay", "x_t and __init\\_\\_ stay"),
    ("- one\n  more\n- two", "- one\n  more\n- two"),
    ("one  a\n     b\ntwo  c", "- one  a\n       b\n- two  c"),
    (">>> f(`x`)\n3", ">>> f(`x`)\n3"),
  ],
)
def test_text_of_docstrings_becomes_restructured_text(text: str, expected: str) -> None:
  assert "\n".join(docstrings.to_rst(text.split("\n"))) == expected


@pytest.mark.parametrize(
  ("block", "language"),
  [("  x = f(*y)", "python"), ("  python scripts/train.py", "text"), ("| a | b |", "text")],
)
def test_examples_and_tables_are_shown_as_they_are(block: str, language: str) -> None:
  lines = docstrings.to_rst(["Use it:", "", block, "", "Then *x*."])
  assert lines[2] == f".. code-block:: {language}" and "  " + block in lines
  assert lines[-1] == "Then \\*x\\*."


def test_sections_are_left_to_napoleon() -> None:
  lines = ["Says.", "", "Args:", "  x: Of `n`s,", "    and more."]
  assert docstrings.to_rst(lines) == [*lines[:3], "  x: Of ``n``\\ s,", "    and more."]


def test_types_are_shortened() -> None:
  long = "(n: Annotated[int, Range(least=1, most=9)] = 4) -> Float[jaxlib._jax.Array, 'B']"
  assert docstrings.short_types(long) == "(n: int = 4) -> Float[Array, 'B']"


def test_formulas_become_mathml() -> None:
  found = mathml.to_mathml(r"\frac{a}{b} + \sum_i x_i", None, as_block=True)
  assert found.startswith("<math") and "<mfrac>" in found and "∑" in found


def test_a_formula_with_an_error_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
  logging.getLogger("sphinx").propagate = True
  with caplog.at_level(logging.WARNING):
    found = mathml.to_mathml(r"\nosuchmacro{<x>}", None, as_block=False)
  assert "nosuchmacro" in caplog.text and found == "<code>\\nosuchmacro{&lt;x&gt;}</code>"
