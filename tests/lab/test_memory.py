"""Memories: uniform, bounded, and of the past only."""

import numpy as np
import pytest

from perceiver_stream.lab.memory import NOTHING, Reservoir, TwoTier, with_replay

CHI2_999_DF39 = 72.05  # 99.9 % quantile of chi-square with 39 degrees of freedom


def test_a_reservoir_is_uniform_over_all_that_was_shown():
  shown, capacity, trials = 40, 8, 2000
  counts = np.zeros(shown)
  for seed in range(trials):
    memory = Reservoir(capacity, np.random.default_rng(seed))
    for clip in range(shown):
      memory.add(clip)
    counts[memory.clips()] += 1
  expected = trials * capacity / shown
  # Draws without replacement: the variance of a count is (1 - capacity / shown) of Poisson's.
  chi2 = np.sum(np.square(counts - expected)) / (expected * (1 - capacity / shown))
  assert counts.sum() == trials * capacity
  assert chi2 < CHI2_999_DF39


@pytest.mark.parametrize("make", [lambda r: Reservoir(7, r), lambda r: TwoTier(3, 4, r)])
def test_memories_are_never_above_their_capacity_and_hold_nothing_twice(make):
  memory = make(np.random.default_rng(0))
  for clip in range(300):
    memory.add(clip)
    held = memory.clips()
    assert len(held) == len(set(held)) == min(clip + 1, memory.capacity)
    assert max(held) <= clip


def test_two_tiers_hold_the_newest_and_some_of_the_older():
  memory = TwoTier(3, 4, np.random.default_rng(0))
  for clip in range(100):
    memory.add(clip)
  assert memory.clips()[-3:] == [97, 98, 99]
  assert max(memory.clips()[:-3]) < 97


def test_a_memory_of_short_term_alone_holds_the_newest():
  memory = TwoTier(3, 0, np.random.default_rng(0))
  for clip in range(10):
    memory.add(clip)
  assert memory.clips() == [7, 8, 9]


def test_what_is_replayed_was_there_before():
  order = np.arange(50, dtype=np.int32)
  rows = with_replay(order, TwoTier(2, 5, np.random.default_rng(0)), 3, np.random.default_rng(1))
  np.testing.assert_array_equal(rows[:, 0], order)
  np.testing.assert_array_equal(rows[0, 1:], [NOTHING] * 3)
  assert np.all(rows[1:, 1:] < order[1:, None]) and np.all(rows[1:, 1:] >= 0)
