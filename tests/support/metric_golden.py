"""The golden files of the metrics: every array in them is either an input or is compared.

Files are of the kinds `metrics_<family>`, see `golden.py`. Cases, sizes and parameters are read
from them.
"""

import json

import numpy as np
import pytest
from golden import or_skip, paths


def cases(family):
  """Returns a pytest parameter for each case (keys up to the last slash) of a family's files."""
  found = []
  for path in paths(f"metrics_{family}"):
    with np.load(path.with_suffix(".npz")) as file:
      prefixes = dict.fromkeys(key.rpartition("/")[0] for key in file.files)
    found += [pytest.param(path, prefix, id=f"{path.stem}:{prefix}") for prefix in prefixes]
  return or_skip(found, f"no golden file of metrics_{family}", values=2)


def close(actual, expected, atol, name, rtol=0.0):
  """Asserts that numbers differ by at most `atol`, those above 1 by that share of them."""
  expected = np.asarray(expected)
  size = np.maximum(1, np.abs(np.asarray(expected, np.float64)))
  size = np.where(np.isfinite(size), size, 1)
  unit = lambda x: np.asarray(x, np.float64) / size  # noqa: E731
  np.testing.assert_allclose(unit(actual), unit(expected), atol=atol, rtol=rtol, err_msg=name)


class Case:
  """The arrays of one case; `done` fails if one of them was not looked at."""

  def __init__(self, path, prefix):
    self.about = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as file:
      self.arrays = {
        key[len(prefix) :].lstrip("/"): file[key]
        for key in file.files
        if key.rpartition("/")[0] == prefix
      }
    self.left = set(self.arrays)

  def __contains__(self, name):
    return name in self.arrays

  def __getitem__(self, name):
    self.left.discard(name)
    return self.arrays[name]

  def get(self, name, default=None):
    return self[name] if name in self.arrays else default

  def equal(self, name, actual, atol=1e-6, rtol=0.0):
    """Compares an output, numbers above 1 relatively; NaN equals NaN."""
    close(actual, self[name], atol, name, rtol)

  def done(self):
    assert not self.left, f"nothing was compared with {sorted(self.left)}"
