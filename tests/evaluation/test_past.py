import numpy as np
import pytest

from perceiver_stream.evaluation.past import Past

SLOTS = 4


def filled(valid, is_first=(0,)):
  past = Past(SLOTS, (2,), np.uint8)
  for tick, ok in enumerate(valid):
    past.add(np.full(2, tick, np.uint8) if ok else None, is_first=tick in is_first)
  return past


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_list_of_all_observations_of_the_recording_as_far_as_it_remembers(seed):
  rng = np.random.default_rng(seed)
  valid, starts = rng.random(30) < 0.7, {0, *rng.integers(0, 30, 2).tolist()}
  past = filled(valid, starts)
  observed = [t for t in range(30) if valid[t]][-SLOTS:]
  known = [t for t in observed if t >= max(starts)]
  assert past.tick == 29
  for tick in range(22, 30):
    before = [t for t in known if t <= tick]
    assert past.newest(tick) == (before[-1] if before else None)
    assert past.last(3, tick)[:, 0].tolist() == before[-3:]
  for tick in known:
    assert past[tick].tolist() == [tick, tick]


def test_what_is_not_valid_is_not_taken_in():
  past = filled([1, 0])
  assert past.newest(1) == 0 and past.last(5, 1).tolist() == [[0, 0]]


def test_going_on_from_a_state_is_never_having_stopped_and_states_are_copies():
  past, again = filled([1, 1, 0, 1]), Past(SLOTS, (2,), np.uint8)
  again.restore(past.state())
  for one in (past, again):
    one.add(np.full(2, 9, np.uint8))
  assert again.last(9, 9).tolist() == past.last(9, 9).tolist() == [[0, 0], [1, 1], [3, 3], [9, 9]]
