"""Golden files: stored arrays with a JSON each, found by kind, and comparisons with them.

They lie in the folder `PERCEIVER_STREAM_GOLDEN` (default `tests/golden`). A file is of the first
kind whose pattern occurs in its JSON's "model", else of the kind named in its file name: other
names, sizes and numbers of files work. Tests of a kind without a file are skipped with a reason;
`tests/test_golden_files.py` fails if `tests/golden` itself lacks a kind.
"""

import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

OURS = pathlib.Path(__file__).parents[1] / "golden"
FOLDER = pathlib.Path(os.environ.get("PERCEIVER_STREAM_GOLDEN", OURS))

# Patterns of the JSON's "model", any case; the order matters where one text names several models.
KINDS = {
  "brave_inputs": r"brave input",
  "brave": r"brave",
  "ssl_reference_own": r"no released code",
  "ssl_cluster_memory": r"selavi|\bgdt\b|coclr",
  "ssl_contrastive": r"contrastive losses|mil-nce",
  "tapnext": r"tapnext",
  "trecvit": r"trecvit",
  "tapir_online": r"tapir",
  "mmv": r"\bmmv\b",
  "vjepa": r"v-?jepa",
  "timesformer": r"timesformer",
  "vivit": r"vivit",
  "slowfast": r"slowfast",
  "video_resnet": r"video resnet",
  "tsm_inflation": r"tsm shift|i3d|inflation",
  "savi": r"\bsavi",
  "resampler": r"resampler|flamingo",
  "prompts": r"prompts? ",
  "attention_masks": r"attention types|masks of attention|attention masks",
  "moog_readouts": r"moog readout",
  "moog_repo": r"moog, modules of the repository",
  "moog": r"moog",
  "rvm": r"\brvm\b",
  "perceiver_io_flow": r"optical_flow",
  "perceiver_io_multimodal": r"multimodal_autoencoder",
  "perceiver_classifier": r"^classifier",
  "geometry_lie": r"lie groups",
  "geometry_losses": r"m-estimators",
  "geometry_warps": r"projections and warps",
  "depth_noise": r"depth noise",
  **{
    f"metrics_{family}": r"(?!)"
    for family in (
      *("boxes", "davis_jf", "depth", "flow", "image", "labelprop", "redetect", "synth_sample"),
      "tapvid",
    )
  },
}


def kind_of(path: pathlib.Path) -> str | None:
  """Returns the kind of a JSON file by its "model", else by its file name; None if unknown."""
  model = str(json.loads(path.read_text()).get("model", ""))
  by_text = (kind for kind, pattern in KINDS.items() if re.search(pattern, model, re.IGNORECASE))
  named = [kind for kind in KINDS if kind in path.stem.lower()]
  return next(by_text, None) or max(named, key=len, default=None)


@functools.cache
def kinds_in(folder: pathlib.Path) -> dict[pathlib.Path, str | None]:
  """Returns the kind of each JSON file of a folder that has arrays."""
  found = (p for p in sorted(folder.glob("*.json")) if p.with_suffix(".npz").exists())
  return {path: kind_of(path) for path in found}


def paths(kind: str) -> list[pathlib.Path]:
  """Returns the JSON files of a kind in the folder."""
  assert kind in KINDS, f"{kind} is none of {', '.join(KINDS)}"
  return [path for path, found in kinds_in(FOLDER).items() if found == kind]


def or_skip(params: list, why: str, values: int = 1) -> list:
  """Returns the parameters of a test, or one of `values` values that skips it if there are none."""
  mark = pytest.mark.skip(reason=f"{why} in {FOLDER}")
  return params or [pytest.param(*[None] * values, id="none", marks=mark)]


class Golden:
  """One pair of files: `about` (the JSON), `arrays` (read on demand) and the names `compared`."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.about: dict[str, Any] = json.loads(path.read_text())
    self.compared: set[str] = set()

  @functools.cached_property
  def arrays(self) -> dict[str, np.ndarray]:
    with np.load(self.path.with_suffix(".npz")) as file:
      return dict(file)

  @property
  def hyper(self) -> dict[str, Any]:
    return self.about["hyperparameters"]

  @property
  def atol(self) -> float:
    return self.about["suggested_atol"]

  def __getitem__(self, name: str) -> jax.Array:
    """Returns an array as JAX keeps it, without 64 bits."""
    value = self.arrays[name]
    narrow = {np.dtype(np.int64): np.int32, np.dtype(np.float64): np.float32}
    return jnp.asarray(value.astype(narrow.get(value.dtype, value.dtype)))

  def part(self, prefix: str) -> dict[str, np.ndarray]:
    """Returns the stored arrays below a prefix, by the rest of their names."""
    return {n.removeprefix(prefix): x for n, x in self.arrays.items() if n.startswith(prefix)}

  def below(self, prefix: str) -> dict[str, jax.Array]:
    """Returns the arrays below a prefix as JAX keeps them."""
    return {n: self[f"{prefix}{n}"] for n in self.part(prefix)}

  def close(self, name: str, actual, tolerance: float | None = None) -> None:
    """Asserts that `actual` is the stored array, relative to max(1, |value|)."""
    self.compared.add(name)
    close(self.arrays[name], actual, tolerance or self.atol, name)

  def equal(self, name: str, actual) -> None:
    """Asserts that every number is the stored one."""
    self.compared.add(name)
    np.testing.assert_array_equal(np.asarray(actual), self.arrays[name], err_msg=name)

  def split(self, name: str, order: str | list) -> dict[str, np.ndarray]:
    """Returns the arrays of a flat vector by name, in an order or the JSON's key of one."""
    self.compared.add(name)
    order = self.about[order] if isinstance(order, str) else order
    flat, sizes = self.arrays[name], [int(np.prod(shape)) for _, shape in order]
    assert sum(sizes) == flat.size, f"{name} has {flat.size} numbers, its order {sum(sizes)}"
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    return {n: x.reshape(shape) for (n, shape), x in zip(order, pieces, strict=True)}

  def flat(self, name: str, order: str | list, arrays: Mapping[str, np.ndarray]) -> None:
    """Compares arrays by name with those of one stored vector, to the tolerance of values."""
    stored = self.split(name, order)
    assert set(stored) == set(arrays), sorted(set(stored) ^ set(arrays))
    for key, want in stored.items():
      close(want, arrays[key], self.atol, f"{name}: {key}")

  def gradient(self, name: str, actual) -> None:
    """Asserts that a gradient is the stored one, see `gradients_close`."""
    self.compared.add(name)
    gradients_close({name: self.arrays[name]}, {name: actual})

  def gradients(self, name: str, order: str | list, arrays: Mapping[str, np.ndarray]) -> None:
    """Compares gradients by name with those of one stored vector, see `gradients_close`."""
    gradients_close(self.split(name, order), arrays)

  def all_compared(self, prefix: str = "outputs") -> None:
    """Asserts that no array below the prefix was left out."""
    left = {name for name in self.arrays if name.startswith(prefix)} - self.compared
    assert not left, f"not compared: {sorted(left)}"


def files(kind: str, make: Callable[[pathlib.Path], Any] = Golden) -> list:
  """Returns a pytest parameter, `make(path)`, for each file of a kind."""
  found = [pytest.param(make(path), id=path.stem) for path in paths(kind)]
  return or_skip(found, f"no golden file of {kind}")


def close(expected, actual, tolerance: float, name: str) -> None:
  """Asserts equality of shape and |difference| ≤ tolerance · max(1, |expected|); NaN is NaN."""
  expected, actual = np.asarray(expected), np.asarray(actual)
  assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
  expected, actual = expected.astype(np.float64), actual.astype(np.float64)
  size = np.maximum(1, np.abs(expected))
  size = np.where(np.isfinite(size), size, 1)
  np.testing.assert_allclose(actual / size, expected / size, 0, tolerance, err_msg=name)


def gradients_close(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
  """Asserts |difference| ≤ 2e-3 max|g of the array| + 1e-5 max|g of all|, for each array."""
  assert set(expected) == set(actual), sorted(set(expected) ^ set(actual))
  most = max(np.max(np.abs(x), initial=0) for x in expected.values())
  for name, want in expected.items():
    want, found = np.asarray(want, np.float64), np.asarray(actual[name], np.float64)
    assert found.shape == want.shape, (name, found.shape, want.shape)
    bound = 2e-3 * np.max(np.abs(want), initial=0) + 1e-5 * most
    error = np.max(np.abs(found - want), initial=0)
    assert error <= bound, (name, error, bound)
