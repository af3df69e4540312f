"""What is kept of the raw input: the last two, and a mean that is plain first and slow later."""

import jax.numpy as jnp
import numpy as np

from perceiver_stream.modalities.memory import initial_memory, remember


def watch(values, valid=None, is_first=None, slow_ticks=4.0):
  """Returns the memory after each tick of one row."""
  memory, found = initial_memory(jnp.zeros((1, 2)), jnp.zeros((1, 2))), []
  for tick, value in enumerate(values):
    flags = [x[tick] if x is not None else d for x, d in ((valid, True), (is_first, tick == 0))]
    value = jnp.full((1, 2), value, jnp.float32)
    memory = remember(memory, value, value, *(jnp.array([f]) for f in flags), slow_ticks)
    found.append(memory)
  return found


def test_the_slow_average_is_the_mean_of_the_few_and_exponential_after():
  values = [3.0, 5.0, 1.0, 7.0, 9.0, 2.0]
  found = [float(m.slow[0, 0]) for m in watch(values)]
  np.testing.assert_allclose(found[:4], [np.mean(values[: n + 1]) for n in range(4)], rtol=1e-6)
  for before, after, value in zip(found[3:], found[4:], values[4:], strict=False):
    np.testing.assert_allclose(after, before + (value - before) / 4, rtol=1e-6)


def test_ticks_that_are_not_valid_change_nothing_whatever_they_hold():
  holes = watch([3.0, np.nan, 5.0, np.inf], valid=[True, False, True, False])
  whole = watch([3.0, 5.0])
  np.testing.assert_array_equal(holes[1].slow, whole[0].slow)
  for ours, expected in zip(holes[3], whole[1], strict=True):
    np.testing.assert_array_equal(ours, expected)


def test_a_new_recording_starts_afresh():
  memory = watch([3.0, 5.0, 8.0], is_first=[True, False, True])[-1]
  assert memory.count.tolist() == [1] and bool(memory.seen[0])
  assert np.all(np.asarray([memory.last, memory.previous, memory.slow]) == 8.0)


def test_nothing_is_seen_before_the_first_valid_tick():
  found = watch([1.0, 2.0], valid=[False, True])
  assert [bool(m.seen[0]) for m in found] == [False, True]
