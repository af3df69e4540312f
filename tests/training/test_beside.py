import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.evaluation.baselines import FrameBaselines
from perceiver_stream.streams import synthetic
from perceiver_stream.training.beside import PixelBaselines
from perceiver_stream.training.checkpoints import flatten

HOP, DISPLACEMENTS = 4, (1, 3)


def rows(num=2, **fields):
  config = synthetic.Config(height=16, width=24, modalities=("pixels",), max_ticks=19, **fields)
  return streams.open_rows(config, num)


def make():
  return PixelBaselines(DISPLACEMENTS, HOP, (16, 24, 3), 2)


def windows(**fields):
  return list(streams.windows(rows(**fields), HOP, max(DISPLACEMENTS)))


def test_every_target_is_scored_once_as_if_frames_came_one_by_one():
  baselines = make()
  scored = [baselines(window) for window in windows(ticks_per_recording=8)]
  for row, ticks in enumerate(rows(ticks_per_recording=8)):
    single = FrameBaselines(DISPLACEMENTS, 16, 24)
    want = [single.score(tick["pixels"], is_first=bool(tick["is_first"])) for tick in ticks]
    for displacement in DISPLACEMENTS:
      for name in ("extrap", "mix"):
        got = np.concatenate([s[f"pixels@{displacement}"][name][:, row] for s in scored])
        expected = [w.get(displacement, {}).get(name, np.nan) for w in want[max(DISPLACEMENTS) :]]
        np.testing.assert_array_equal(got[: len(expected)], expected)
        assert np.isnan(got[len(expected) :]).all()  # padding after the end


@pytest.mark.parametrize("stop", [1, 3])
def test_going_on_from_a_state_is_never_having_stopped(stop):
  whole, before, after = make(), make(), make()
  all_windows = windows()
  want = [whole(window) for window in all_windows]
  for window in all_windows[:stop]:
    before(window)
  after.restore(before.state())
  for window, expected in zip(all_windows[stop:], want[stop:], strict=True):
    got = after(window)
    for key in expected:
      for name in expected[key]:
        np.testing.assert_array_equal(got[key][name], expected[key][name])


def test_the_state_has_fixed_shapes_and_is_plain_arrays():
  baselines = make()
  before = flatten(baselines.state())
  baselines(windows()[0])
  after = flatten(baselines.state())
  assert {k: (v.shape, v.dtype) for k, v in before.items()} == {
    k: (v.shape, v.dtype) for k, v in after.items()
  }


def test_frames_that_were_not_observed_are_not_scored():
  window = dict(windows()[0])
  window["pixels_valid"] = np.ones((HOP + 3, 2), bool)
  window["pixels_valid"][-1, 1] = False
  errors = make()(window)["pixels@1"]["mix"]
  assert np.isfinite(errors[:, 0]).all() and list(np.isnan(errors[:, 1])) == [False] * 3 + [True]
