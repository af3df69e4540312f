"""Parameters of which none is zero, as heads are at first, so that whatever is seen shows."""

import jax


def shaken(params, by=0.1):
  """Returns parameters with normal noise of so much added to each."""
  keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
  return jax.tree.map(lambda p: p + by * jax.random.normal(next(keys), p.shape), params)
