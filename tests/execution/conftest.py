"""Lets the tests of this folder share `staged_models`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
