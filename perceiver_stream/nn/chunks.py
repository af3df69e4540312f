"""Evaluation of a function in chunks of independent elements, to bound memory."""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree


def in_chunks(f: Callable[[PyTree], PyTree], x: PyTree, size: int | None, axis: int = 1) -> PyTree:
  """Returns `f(x)`, computed for at most `size` elements of one axis at a time.

  The function must treat elements independently. The last chunk is padded with zeros. Chunks run in
  one scan, so the program does not grow with their number.

  Args:
    f: Function of a pytree of arrays that keeps the axis. May create parameters.
    x: Pytree of arrays with equal lengths of that axis.
    size: Maximum number of elements; None: all at once.
    axis: Axis to split.
  """
  total = jax.tree.leaves(x)[0].shape[axis]
  if size is None or total <= size:
    return f(x)
  pad = -total % size

  def cut(a: Array | np.ndarray) -> Array:
    widths = [(0, 0)] * a.ndim
    widths[axis] = (0, pad)
    a = jnp.pad(a, widths)
    a = a.reshape(*a.shape[:axis], -1, size, *a.shape[axis + 1 :])
    return jnp.moveaxis(a, axis, 0)

  def join(a: Array) -> Array:
    a = jnp.moveaxis(a, 0, axis)
    a = a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])
    return jax.lax.slice_in_dim(a, 0, total, axis=axis)

  return jax.tree.map(join, hk.map(f, jax.tree.map(cut, x)))
