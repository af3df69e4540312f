"""The golden files of representation learning: arrays, and comparisons at the stated tolerance.

Files are `<name>_*.npz` in `PERCEIVER_STREAM_GOLDEN` (default `tests/golden`), with their JSON.
"""

import json
import os
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = pathlib.Path(
  os.environ.get("PERCEIVER_STREAM_GOLDEN", pathlib.Path(__file__).parents[1] / "golden")
)


class Golden:
  """The arrays of one file, the comparisons made, and the sizes of its JSON."""

  def __init__(self, path: pathlib.Path):
    self.about = json.loads(path.read_text())
    self.sizes = self.about["hyperparameters"]
    with np.load(path.with_suffix(".npz")) as file:
      self.arrays = dict(file)
    self.compared: set[str] = set()

  def __getitem__(self, name: str) -> jax.Array:
    value = self.arrays[name]
    narrow = {np.dtype(np.int64): np.int32, np.dtype(np.float64): np.float32}
    return jnp.asarray(value.astype(narrow.get(value.dtype, value.dtype)))

  def has(self, prefix: str) -> bool:
    """Returns True if an array's name starts so."""
    return any(name.startswith(prefix) for name in self.arrays)

  def below(self, prefix: str) -> dict[str, jax.Array]:
    """Returns the arrays under a prefix, by the rest of their names."""
    return {n.removeprefix(prefix): self[n] for n in self.arrays if n.startswith(prefix)}

  def close(self, name: str, actual) -> None:
    """Asserts that `actual` is the stored array, relative to max(1, |value|)."""
    self.compared.add(name)
    expected, actual = self.arrays[name], np.asarray(actual)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    error = np.abs(actual.astype(float) - expected.astype(float))
    error = error / np.maximum(1, np.abs(expected.astype(float)))
    assert np.max(error, initial=0) <= self.about["suggested_atol"], (name, np.max(error))

  def equal(self, name: str, actual) -> None:
    """Asserts that every number is the stored one."""
    self.compared.add(name)
    np.testing.assert_array_equal(np.asarray(actual), self.arrays[name], err_msg=name)

  def gradient(self, name: str, actual, *, largest: float | None = None) -> None:
    """Asserts that a gradient is the stored one, by the rule of the files."""
    self.compared.add(name)
    expected, actual = self.arrays[name].astype(float), np.asarray(actual, float)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    near(expected, actual, largest or np.max(np.abs(expected)), name)

  def parts(self, name: str, order: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a flat vector by name, in the order that the JSON gives."""
    self.compared.add(name)
    return split(self.arrays[name], self.about[order])

  def all_compared(self, prefix: str = "outputs/") -> None:
    """Asserts that no output was left out."""
    outputs = {name for name in self.arrays if name.startswith(prefix)}
    assert outputs <= self.compared, sorted(outputs - self.compared)


def near(expected: np.ndarray, actual: np.ndarray, largest: float, name: str) -> None:
  """Asserts that a gradient differs by 2e-3 of its own and 1e-5 of the largest gradient at most."""
  bound = 2e-3 * np.max(np.abs(expected), initial=0) + 1e-5 * largest
  error = np.max(np.abs(actual - expected), initial=0)
  assert error <= bound, (name, error, bound)


def near_all(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> None:
  """Asserts that all gradients are near, by name; see `near`."""
  assert set(expected) == set(actual), set(expected) ^ set(actual)
  largest = max(np.max(np.abs(value), initial=0) for value in expected.values())
  for name, value in expected.items():
    near(value.astype(float), np.asarray(actual[name], float), largest, name)


def split(flat: np.ndarray, order) -> dict[str, np.ndarray]:
  """Returns the arrays of a flat vector by name."""
  sizes = [int(np.prod(shape)) for _, shape in order]
  assert sum(sizes) == flat.size, (sum(sizes), flat.size)
  pieces = np.split(flat, np.cumsum(sizes)[:-1])
  return {name: piece.reshape(shape) for (name, shape), piece in zip(order, pieces, strict=True)}


def files(name: str):
  """Returns a pytest parameter, a `Golden`, for each file of a kind."""
  return [pytest.param(Golden(p), id=p.stem) for p in sorted(FOLDER.glob(f"{name}_*.json"))]
