"""The golden files of geometry: arrays in float64, and comparisons at the tolerance their JSON names.

Files are of the kinds `geometry_<family>`, see `golden.py`.
"""

import golden
import jax
import jax.numpy as jnp
import numpy as np
from golden import Golden


class GeometryGolden(Golden):
  """One pair of files, with arrays in float64."""

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


def files(family: str) -> list:
  """Returns a pytest parameter, a `GeometryGolden`, for each file of a family."""
  return golden.files(f"geometry_{family}", GeometryGolden)
