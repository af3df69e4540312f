import numpy as np

from perceiver_stream.training.means import MeanDepth, Together


def window(*depths, **more):
  ticks = [np.full((1, 2, 3), d, np.float32) for d in depths]
  return {"depth": np.stack(ticks)} | more


def test_it_predicts_the_mean_of_what_came_before():
  baseline = MeanDepth("depth", (1, 4), hop=2, nearest=1.0, farthest=100.0)
  first = baseline(window(7, 2, 4))
  assert np.isnan(first["depth@1"]["mean"]).all()
  second = baseline(window(4, 6, 2))  # of 2 and 4, which were the last two: mean 3
  np.testing.assert_allclose(second["depth@1"]["mean"][:, 0], [abs(3 - 6) / 6, abs(3 - 2) / 2])
  assert second.keys() == {"depth@1", "depth@4"}


def test_what_is_not_valid_is_not_taken_in_and_ranges_are_kept():
  baseline = MeanDepth("depth", (1,), hop=1, nearest=1.0, farthest=10.0)
  baseline(window(5, depth_valid=np.ones((1, 1), bool)))
  baseline(window(9, depth_valid=np.zeros((1, 1), bool)))
  error = baseline(window(np.inf))["depth@1"]["mean"]
  np.testing.assert_allclose(error, abs(5 - 10) / 10)


def test_it_goes_on_from_its_state():
  windows = [window(*np.random.default_rng(i).uniform(1, 9, 3)) for i in range(4)]
  make = lambda: Together({"a": MeanDepth("depth", (1,), 3, 0.1, 100.0)})  # noqa: E731
  whole, before, after = make(), make(), make()
  expected = [whole(w) for w in windows]
  for w in windows[:2]:
    before(w)
  after.restore(before.state())
  for w, errors in zip(windows[2:], expected[2:], strict=True):
    np.testing.assert_array_equal(after(w)["depth@1"]["mean"], errors["depth@1"]["mean"])


def test_together_joins_the_predictors_of_one_key():
  near, far = MeanDepth("depth", (1,), 1, 0.1, 100.0), MeanDepth("depth", (4,), 1, 0.1, 100.0)
  joined = Together({"near": near, "far": far, "again": MeanDepth("depth", (1,), 1, 0.1, 100.0)})
  assert joined(window(3)).keys() == {"depth@1", "depth@4"}
