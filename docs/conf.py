"""Settings of the documentation site, which `make docs` builds with Sphinx.

Pages are the Markdown files of this folder, which read on GitHub as well. The API reference is made
from the package tree at each build. Nothing is fetched: no inventories, fonts or scripts of others.
"""

import pathlib
import sys

from perceiver_stream.version import __version__

sys.path.insert(0, str(pathlib.Path(__file__).parent / "site"))  # our extensions

project = "perceiver_stream"
author = "the perceiver_stream authors"
copyright = "the perceiver_stream authors, Apache-2.0"
release = version = __version__

extensions = [
  "myst_parser",
  "sphinx.ext.apidoc",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "docstrings",
  "mathml",
]
exclude_patterns = ["site", "api/modules.rst"]

# Markdown as GitHub reads it: links to headings, $x$, $$x$$ and blocks of ```math.
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

# One page for each package, made anew from the package tree at each build.
apidoc_modules = [
  {
    "path": "../perceiver_stream",
    "destination": "api",
    "module_first": True,
    "automodule_options": {"members"},
  }
]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
add_module_names = False
suppress_warnings = ["ref.python"]  # names in `Raises:` that two packages have
toc_object_entries = False

html_theme = "furo"
html_title = f"perceiver_stream {__version__}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
