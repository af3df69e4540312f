"""Pytrees as plain arrays by name, and back."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

# Fields of states with other names in checkpoints of older versions.
_MOVED = {"start": "extra", "inner": "extra", "clip": "extra"}


class CheckpointError(RuntimeError):
  """A checkpoint could not be written, read or used; the message has advice."""


def flatten(tree: PyTree) -> dict[str, np.ndarray]:
  """Returns copies of all arrays of a tree on the host, by the path to each."""
  return {name: np.array(leaf) for name, leaf in named(jax.device_get(tree)).items()}


def named(tree: PyTree) -> dict[str, Any]:
  """Returns all arrays of a tree on their devices, by the path to each."""
  return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def whole(array: Any) -> np.ndarray:
  """Returns an array on the host; if it is sharded between processes, all of them must call it."""
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    array = multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def unflatten(arrays: Mapping[str, Any], template: PyTree, what: str = "arrays") -> PyTree:
  """Returns the tree that `flatten` got, in the structure of `template`.

  Raises:
    CheckpointError: Names, shapes or dtypes differ; the message lists them.
  """
  leaves, structure = jax.tree_util.tree_flatten_with_path(template)
  expected = {_name(path): leaf for path, leaf in leaves}
  arrays = {_moved(name, expected): array for name, array in arrays.items()}
  missing, extra = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
  other = [
    f"{n} is {_kind(arrays[n])}, expected {_kind(expected[n])}"
    for n in expected
    if n in arrays and _kind(arrays[n]) != _kind(expected[n])
  ]
  if missing or extra or other:
    raise CheckpointError(
      f"{what} does not fit this model. Missing: {_some(missing)}. Not expected: {_some(extra)}. "
      f"Different: {_some(other)}. Load it with the config and version that wrote it."
    )
  return jax.tree.unflatten(structure, [arrays[n] for n in expected])


def checksum(arrays: Mapping[str, Any]) -> int:
  """Returns a number that changes with any name, shape or value; see `whole`."""
  total = 0
  for name in sorted(arrays):
    total = zlib.crc32(f"{name} {_kind(arrays[name])}".encode(), total)
    total = zlib.crc32(np.ascontiguousarray(whole(arrays[name])).tobytes(), total)
  return total


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _moved(name: str, expected: Mapping[str, Any]) -> str:
  """Returns the current name of an array if the tree expects it instead of its old one."""
  today = "/".join(_MOVED.get(part, part) for part in name.split("/"))
  return today if name not in expected and today in expected else name


def _kind(array: Any) -> str:
  return f"{np.dtype(array.dtype).name}{list(array.shape)}"


def _some(names: list[str], most: int = 6) -> str:
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return (", ".join(names[:most]) + more) or "nothing"
