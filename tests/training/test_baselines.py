import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.evaluation.baselines import FrameBaselines
from perceiver_stream.evaluation.past_means import depth_means, sound_means
from perceiver_stream.modalities import audio, depth
from perceiver_stream.streams import synthetic
from perceiver_stream.training.arrays import flatten
from perceiver_stream.training.baselines import BaselineSet
from perceiver_stream.training.distributed import Rows

HOP, AHEAD = 4, (1, 3)
SOUND = audio.Config(num_samples=640)
MAKE = {
  "pixels": lambda: FrameBaselines(AHEAD, 16, 24),
  "audio": lambda: sound_means(SOUND, AHEAD),
  "depth": lambda: depth_means(depth.Config(height=16, width=24), AHEAD),
}


def rows(num=2, **fields):
  names = ("pixels", "audio", "depth")
  config = synthetic.Config(height=16, width=24, modalities=names, max_ticks=19, **fields)
  return streams.open_rows(config, num)


def make(own=(0, 1), num=2):
  return BaselineSet(MAKE, HOP, Rows(own, num))


def windows(**fields):
  return list(streams.windows(rows(**fields), HOP, max(AHEAD)))


@pytest.fixture(scope="module")
def two_recordings():
  return windows(ticks_per_recording=8)


def assert_same(got, expected):
  assert got.keys() == expected.keys()
  for key in expected:
    assert got[key].keys() == expected[key].keys()
    for name in expected[key]:
      np.testing.assert_array_equal(got[key][name], expected[key][name], err_msg=f"{key} {name}")


def test_every_target_is_scored_once_as_if_ticks_came_one_by_one(two_recordings):
  baselines = make()
  scored = [baselines(window) for window in two_recordings]
  for row, ticks in enumerate(rows(ticks_per_recording=8)):
    ticks = list(ticks)
    for name, one in MAKE.items():
      single = one()
      want = [single.score(t[name], is_first=bool(t["is_first"])) for t in ticks]
      for key, predictor in [(d, n) for d in AHEAD for n in single.names if n != "copy"]:
        got = np.concatenate([s[f"{name}@{key}"][predictor][:, row] for s in scored])
        expected = [w.get(key, {}).get(predictor, np.nan) for w in want[max(AHEAD) :]]
        np.testing.assert_array_equal(got[: len(expected)], expected)
        assert np.isnan(got[len(expected) :]).all()  # padding after the end


@pytest.mark.parametrize("stop", [1, 3])
def test_going_on_from_a_state_is_never_having_stopped(two_recordings, stop):
  whole, before, after = make(), make(), make()
  want = [whole(window) for window in two_recordings]
  for window in two_recordings[:stop]:
    before(window)
  after.restore(before.state())
  for window, expected in zip(two_recordings[stop:], want[stop:], strict=True):
    assert_same(after(window), expected)


def test_any_process_goes_on_with_any_row(two_recordings):
  both = make()
  for window in two_recordings[:2]:
    both(window)
  second = make((1,), 2)
  second.restore(both.state())
  expected, window = both(two_recordings[2]), two_recordings[2]
  got = second({name: value[:, 1:] for name, value in window.items()})
  assert_same(got, {k: {n: e[:, 1:] for n, e in by.items()} for k, by in expected.items()})


def test_the_state_has_fixed_shapes_and_is_plain_arrays(two_recordings):
  baselines = make()
  kinds = lambda: {k: (v.shape, v.dtype) for k, v in flatten(baselines.state()).items()}  # noqa: E731
  before = kinds()
  baselines(two_recordings[0])
  assert kinds() == before


def test_ticks_that_were_not_observed_are_not_scored(two_recordings):
  window = dict(two_recordings[0])
  for name in MAKE:
    window[f"{name}_valid"] = np.ones((HOP + 3, 2), bool)
    window[f"{name}_valid"][-1, 1] = False
  for key, by_name in make()(window).items():
    for errors in by_name.values():
      assert np.isfinite(errors[:, 0]).all(), key
      assert list(np.isnan(errors[:, 1])) == [False] * 3 + [True], key
