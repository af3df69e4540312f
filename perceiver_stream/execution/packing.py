"""Trees of different shapes as buffers of one shape, so that devices can run one program.

All float32 arrays of a tree are concatenated to one vector, all booleans to another; vectors have
the length of the longest tree. Packing moves numbers and changes none.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

Buffers = dict[str, Array]  # by dtype, `[size]`


class Packing:
  """The layout of several trees in buffers that fit all of them."""

  def __init__(self, trees: Sequence[PyTree]):
    """Takes one tree per device; arrays or their shapes."""
    self.trees = [jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), t) for t in trees]
    sizes = [self._lengths(tree) for tree in self.trees]
    names = sorted({name for lengths in sizes for name in lengths})
    self.sizes = {n: max(lengths.get(n, 0) for lengths in sizes) for n in names}

  def pack(self, device: int, tree: PyTree) -> Buffers:
    """Returns the buffers of one device's tree.

    Raises:
      ValueError: The tree is not that of the device.
    """
    expected, found = jax.tree.structure(self.trees[device]), jax.tree.structure(tree)
    if expected != found:
      raise ValueError(f"Packing: device {device} holds {expected}, not {found}.")
    parts: dict[str, list[Array]] = {name: [] for name in self.sizes}
    for x in jax.tree.leaves(tree):
      parts[str(x.dtype)].append(jnp.ravel(x))
    buffers = {}
    for name, size in self.sizes.items():
      left = size - sum(part.size for part in parts[name])
      buffers[name] = jnp.concatenate([*parts[name], jnp.zeros(left, name)])
    return buffers

  def unpack(self, device: int, buffers: Buffers) -> PyTree:
    """Returns one device's tree."""
    starts = dict.fromkeys(self.sizes, 0)

    def one(x: jax.ShapeDtypeStruct) -> Array:
      name, size = str(x.dtype), math.prod(x.shape)
      start, starts[name] = starts[name], starts[name] + size
      return buffers[name][start : start + size].reshape(x.shape)

    return jax.tree.map(one, self.trees[device])

  def zeros(self) -> Buffers:
    """Returns buffers of zeros."""
    return {name: jnp.zeros(size, name) for name, size in self.sizes.items()}

  def _lengths(self, tree: PyTree) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for x in jax.tree.leaves(tree):
      name = str(np.dtype(x.dtype))
      lengths[name] = lengths.get(name, 0) + math.prod(x.shape)
    return lengths
