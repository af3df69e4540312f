"""Golden files of representation learning: arrays, tolerances and the checks that every array is used.

Files are `<name>_*.npz` in `PERCEIVER_STREAM_GOLDEN` (default `tests/golden`), with their JSON, which
gives sizes, options, tolerances and the order of arrays in flat vectors.
"""

import json
import os
import pathlib

import numpy as np
import pytest

from perceiver_stream.models.mapping import unflatten

FOLDER = pathlib.Path(
  os.environ.get("PERCEIVER_STREAM_GOLDEN", pathlib.Path(__file__).parents[1] / "golden")
)


class Golden:
  """The arrays of one file, and comparisons at the tolerance of its JSON."""

  def __init__(self, path: pathlib.Path):
    self.about = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as file:
      self.arrays = dict(file)
    self.compared: set[str] = set()

  def __getitem__(self, name: str) -> np.ndarray:
    return self.arrays[name]

  def under(self, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays whose name starts with `prefix`, without it."""
    return {n.removeprefix(prefix): x for n, x in self.arrays.items() if n.startswith(prefix)}

  def close(self, name: str, actual, tolerance: float | None = None) -> None:
    """Asserts that `actual` is the stored array, relative to max(1, |value|)."""
    self.compared.add(name)
    close(self.arrays[name], actual, tolerance or self.about["suggested_atol"], name)

  def split(self, name: str, order: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a flat vector by their released names; counts it as compared."""
    self.compared.add(name)
    found, start = {}, 0
    for path, shape in self.about[order]:
      stop = start + int(np.prod(shape))
      found[path] = self.arrays[name][start:stop].reshape(shape)
      start = stop
    assert start == self.arrays[name].size, f"{order} has {start} numbers, {name} another number"
    return found

  def all_compared(self) -> None:
    """Asserts that every output of the file was compared."""
    outputs = {name for name in self.arrays if name.startswith("outputs/")}
    assert outputs == self.compared, sorted(outputs ^ self.compared)


def close(expected, actual, tolerance: float, name: str) -> None:
  """Asserts equality of shape, finiteness, and |difference| ≤ tolerance · max(1, |expected|)."""
  expected, actual = np.asarray(expected), np.asarray(actual)
  assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
  assert np.all(np.isfinite(actual)), name
  expected, actual = expected.astype(float), actual.astype(float)
  error = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
  assert np.max(error, initial=0) <= tolerance, (name, np.max(error))


def gradients_close(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> None:
  """Asserts |difference| ≤ 2e-3 max|g of the array| + 1e-5 max|g of all|, for each array."""
  assert set(expected) == set(actual), sorted(set(expected) ^ set(actual))
  most = max(np.max(np.abs(x), initial=0) for x in expected.values())
  for name, want in expected.items():
    bound = 2e-3 * np.max(np.abs(want), initial=0) + 1e-5 * most
    error = np.max(np.abs(np.asarray(actual[name]) - want), initial=0)
    assert error <= bound, (name, error, bound)


def tree(flat: dict[str, np.ndarray]) -> dict:
  """Returns the two-level tree of arrays by path."""
  return unflatten(flat)


def cases(name: str):
  """Returns a pytest parameter, a `Golden`, for each file `<name>_*.json`."""
  paths = sorted(FOLDER.glob(f"{name}_*.json"))
  assert paths, f"no {name}_*.json in {FOLDER}"
  return [pytest.param(Golden(p), id=p.stem) for p in paths]
