"""Lengths that keep changing compile few programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close, shaken

from perceiver_stream import zoo


def test_any_length_equals_unroll_and_compiles_powers_of_two_alone():
  config = zoo.config("conv3d/nano")
  config.displacements = (1, 7)  # as in no other test: models of equal configs share programs
  model = zoo.build(config)
  rng = np.random.default_rng(0)
  frames = jnp.asarray(model.modalities["pixels"].random_observation(rng, (7, 1)))
  params = shaken(model.init(jax.random.key(0), {"pixels": frames[0]}))
  state = model.initial_state(params)
  pieces, last = model.unroll_any(params, state, {"pixels": frames})
  whole, end = model.unroll(params, state, {"pixels": frames})
  assert_close(pieces, whole, atol=1e-5)
  assert_close(last, end, atol=1e-5)
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **about: compiled.append(event) if "jaxpr_trace" in event else None
  )
  model.unroll_any(params, state, {"pixels": frames[:5]})  # 4 + 1, both known
  known = len(compiled)
  model.unroll(params, state, {"pixels": frames[:5]})
  assert len(compiled) > known, "the listener hears of a new length"
  with pytest.raises(ValueError, match="observations have 0 ticks"):
    model.unroll_any(params, state, {"pixels": frames[:0]})
