"""The golden files of geometry: arrays in float64, and comparisons at the tolerance their JSON names.

Files are `geometry_*.npz` in `PERCEIVER_STREAM_GOLDEN` (default `tests/golden`), with their JSON.
"""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = pathlib.Path(
  os.environ.get("PERCEIVER_STREAM_GOLDEN", pathlib.Path(__file__).parents[1] / "golden")
)


class Golden:
  """The arrays of one file in float64, and comparisons at the tolerance that its JSON suggests."""

  def __init__(self, path: pathlib.Path):
    self.about = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as file:
      self.arrays = dict(file)
    self.compared: set[str] = set()

  def __getitem__(self, name: str):
    return jnp.asarray(self.arrays[name])

  def close(self, name: str, actual, where=None) -> None:
    """Asserts that `actual` is the stored array, relative to max(1, |value|), on rows `where`."""
    self.compared.add(name)
    expected, actual = self.arrays[name], np.asarray(actual)
    assert actual.shape == expected.shape and np.all(np.isfinite(actual)), name
    if where is not None:
      expected, actual = expected[np.asarray(where)], actual[np.asarray(where)]
    expected, actual = expected.astype(float), actual.astype(float)
    error = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
    assert np.max(error, initial=0) <= self.about["suggested_atol"], (name, np.max(error))

  def gradients(self, prefix: str, function, arguments: dict, where=None) -> None:
    """Compares a function's value and the gradients of its product with the cotangent."""
    value, pull = jax.vjp(lambda args: function(**args), arguments)
    if f"{prefix}value" in self.arrays:
      self.close(f"{prefix}value", value)
    (found,) = pull(self[f"{prefix}cotangent"])
    for name, gradient in found.items():
      if f"{prefix}grad_{name}" in self.arrays:
        kept = where if name in ("xy", "flow") else None
        self.close(f"{prefix}grad_{name}", gradient, kept)


def files(name: str):
  """Returns a pytest parameter, a `Golden`, for each file of a kind."""
  return [pytest.param(Golden(p), id=p.stem) for p in sorted(FOLDER.glob(f"geometry_{name}*.json"))]
