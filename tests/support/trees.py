"""Trees of arrays: comparing them, and parameters of which none is zero."""

import jax
import jax.numpy as jnp
import numpy as np
from quick_init import normal


def assert_close(one, other, atol: float = 1e-4) -> None:
  """Asserts that two trees have the same structure and nearly the same values."""
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol)


def shaken(params, by: float = 0.1):
  """Returns parameters with normal noise of scale `by` added: no initial zero hides a fault."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noise = [normal(key, p.shape) for key, p in zip(keys, leaves, strict=True)]
  new = [np.asarray(p) + np.float32(by) * np.asarray(x) for p, x in zip(leaves, noise, strict=True)]
  return jax.tree.unflatten(structure, [jnp.asarray(x) for x in new])
