"""Golden files of encoders of clips: parameters by published names, outputs, loss and gradients."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.models.mapping import Detected, published_names
from perceiver_stream.zoo import clip_encoders

FOLDER = pathlib.Path(
  os.environ.get("PERCEIVER_STREAM_GOLDEN", pathlib.Path(__file__).parents[1] / "golden")
)


class ClipGolden:
  """One pair of files; every array is an input, a parameter, or compared."""

  def __init__(self, path: pathlib.Path):
    self.about = json.loads(path.read_text())
    self.hyper = self.about["hyperparameters"]
    self.atol = self.about["suggested_atol"]
    with np.load(path.with_suffix(".npz")) as file:
      self.arrays = dict(file)
    self.compared: set[str] = set()

  def __getitem__(self, name: str) -> np.ndarray:
    return self.arrays[name]

  def part(self, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays below a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

  def load(self, config, prefix: str, rules, ignore: str = "") -> clip_encoders.Loaded:
    """Returns the encoder with the file's parameters below a prefix."""
    return clip_encoders.from_published(
      self.part(prefix), Detected(config, rules, ignore), "golden"
    )

  def close(self, name: str, actual) -> None:
    """Asserts that `actual` is the stored array, to the JSON's tolerance times max(1, |value|)."""
    self.compared.add(name)
    expected, actual = self.arrays[name], np.asarray(actual)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    error = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
    assert np.max(error, initial=0) <= self.atol, (name, np.max(error))

  def flat(self, name: str, order: list, arrays: dict[str, np.ndarray]) -> None:
    """Compares arrays by published names with one stored vector, to the tolerance of values."""
    vector = [np.ravel(arrays.pop(key)) for key, _ in order]
    assert not arrays, sorted(arrays)
    self.close(name, np.concatenate(vector))

  def gradients(self, name: str, order: list, arrays: dict[str, np.ndarray]) -> None:
    """Compares gradients by published names with one stored vector, to `gradient_tolerance`."""
    self.compared.add(name)
    expected, start = self.arrays[name], 0
    largest = np.max(np.abs(expected))
    assert {key for key, _ in order} == set(arrays)
    for key, shape in order:
      size = int(np.prod(shape))
      one = expected[start : start + size].reshape(shape)
      start += size
      assert arrays[key].shape == one.shape, key
      error = np.max(np.abs(arrays[key] - one))
      assert error <= 2e-3 * np.max(np.abs(one)) + 1e-5 * largest, (key, error)
    assert start == expected.size

  def all_compared(self) -> None:
    """Asserts that no stored output was left out."""
    outputs = {name for name in self.arrays if name.startswith("outputs/")}
    assert self.compared == outputs, sorted(outputs ^ self.compared)


def files(name: str):
  """Returns a pytest parameter, a path, for each file `<name>_*.json`."""
  return [pytest.param(p, id=p.stem) for p in sorted(FOLDER.glob(f"{name}_*.json"))]


def exported(tree, rules) -> dict[str, np.ndarray]:
  """Returns the arrays of a tree under their published names."""
  flat = {f"{module}/{leaf}": v for module, leaves in tree.items() for leaf, v in leaves.items()}
  result = {}
  for ours, there in published_names(tree, rules).items():
    value = np.asarray(flat[ours])
    result[there.name] = (value.transpose(there.axes) if there.axes else value).reshape(there.shape)
  return result


def train_step(loaded: clip_encoders.Loaded, clips, labels):
  """Returns logits, loss, gradients and statistics of one batch in training, cross-entropy."""
  encoder, params, statistics = loaded

  def loss(params):
    outputs, after = encoder.apply(params, statistics, clips, True)
    assert outputs.logits is not None
    log_probabilities = jax.nn.log_softmax(outputs.logits)
    picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)
    return -jnp.mean(picked), (outputs, after)

  (value, (outputs, after)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  return outputs, value, grads, after


def channels_last(clips: np.ndarray) -> jax.Array:
  """Returns torch's `[B, C, T, H, W]` as `[B, T, H, W, C]`."""
  return jnp.moveaxis(jnp.asarray(clips), 1, -1)
