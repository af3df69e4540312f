"""The session's quick initialisation gives the parameters that the compiled one gives."""

import jax
import numpy as np
import pytest
from quick_init import normal, with_quick_init

from perceiver_stream import zoo
from perceiver_stream.zoo.loading import blank_tick


# Convolutions, a state drawn at random, an LRU with a distribution of its own.
@pytest.mark.parametrize("name", ["conv3d/nano", "moog/nano", "trecvit/nano"])
def test_parameters_are_those_of_the_compiled_program(name):
  model = zoo.build(name)
  key, tick = jax.random.key(3), blank_tick(model)
  compiled = jax.jit(model.init)(key, tick)
  found = with_quick_init(model._replace(init=None)).init(key, tick)
  assert jax.tree.structure(found) == jax.tree.structure(dict(compiled))
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(compiled), strict=True):
    assert one.dtype == other.dtype
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (9, 7, 5)])
def test_numbers_of_a_flat_array_are_those_of_any_shape(shape):
  key = jax.random.key(4)
  np.testing.assert_array_equal(normal(key, shape), jax.random.normal(key, shape))
