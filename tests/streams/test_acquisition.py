"""Observations at a price: nothing is seen that was not bought, and every purchase is paid."""

import itertools

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import countdown, pulses
from perceiver_stream.streams.acquisition import Acquisition, Episode, episodes

PRICES = {"clock": 0.25, "pixels": 0.5}


def source(ticks=8, **fields):
  config = countdown.Config(ticks_per_recording=ticks, **fields)
  return episodes(iter(streams.open_rows(config)[0]), tuple(PRICES), ticks)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_bought_is_seen_and_paid_a_tick_later(seed):
  rng, (episode,) = np.random.default_rng(seed), itertools.islice(source(), 1)
  env = Acquisition(source(), PRICES, 4)
  seen, total = env.reset(), 0.0
  chosen = np.zeros(2, bool)
  for t in range(8):
    assert seen["tick"] == t
    for name, has in zip(PRICES, chosen, strict=True):
      value = episode.values[name][t]
      np.testing.assert_array_equal(seen[name], value if has else np.zeros_like(value))
      assert seen[f"{name}_valid"] == has and seen[name].dtype == value.dtype
    chosen = rng.random(2) < 0.5
    scores = rng.normal(size=4)
    seen, reward, ended, paid = env.step(chosen, scores)
    assert ended == (t == 7)
    if not ended:
      assert paid == -reward == chosen @ [0.25, 0.5]
      total += paid
  assert paid == 0
  expected = scores[episode.label] - np.log(np.exp(scores).sum())
  np.testing.assert_allclose(reward, expected)


def test_what_the_stream_lacks_is_neither_seen_nor_paid():
  values = {"clock": np.ones((3, 2), np.float32), "pixels": np.ones((3, 1), np.float32)}
  valid = {"clock": np.array([True, False, True]), "pixels": np.ones(3, bool)}
  env = Acquisition(iter([Episode(values, valid, 1)]), PRICES, 2)
  env.reset()
  seen, reward, _, paid = env.step(np.array([True, True]))
  assert (reward, paid) == (-0.5, 0.5) and not seen["clock_valid"] and seen["clock"].sum() == 0
  env.step(np.array([True, False]))
  assert env.step(np.array([True, True])).reward == pytest.approx(np.log(0.5))
  with pytest.raises(StopIteration):
    env.reset()


def test_episodes_are_whole_and_of_one_recording():
  config = pulses.Config(ticks_per_recording=7, max_ticks=20)
  found = list(episodes(iter(streams.open_rows(config)[0]), ("audio",), 3))
  assert [e.values["audio"].shape for e in found] == [(3, 800)] * 6
  ticks = list(streams.open_rows(config)[0])
  for number, first in enumerate((0, 3, 7, 10, 14, 17)):
    part = ticks[first : first + 3]
    np.testing.assert_array_equal(found[number].values["audio"], [t["audio"] for t in part])
    assert found[number].label == part[-1]["label"]
  with pytest.raises(ValueError, match=r"has no \['depth'\]; it has .*'audio'"):
    next(episodes(ticks, ("audio", "depth"), 3))


def test_misuse_is_refused():
  env = Acquisition(source(), PRICES, 4)
  with pytest.raises(RuntimeError, match="call reset first"):
    env.step(np.zeros(2, bool))
  env.reset()
  with pytest.raises(ValueError, match=r"acquire \(3,\) and scores \(4,\); expected \(2,\)"):
    env.step(np.zeros(3, bool))
  for bad in ({"clock": -0.1}, {"clock": np.nan}, {}):
    with pytest.raises(ValueError, match="prices of 0 or more"):
      Acquisition(source(), bad, 4)
