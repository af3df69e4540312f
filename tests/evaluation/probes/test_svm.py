"""The published protocols of linear SVMs, against closed forms and the conditions of the optimum."""

import numpy as np
import pytest

from perceiver_stream.evaluation.probes import svm
from perceiver_stream.evaluation.probes.svm import PROTOCOLS, Protocol, Split


def data(num=60, width=5, classes=3, windows=2, noise=0.5, seed=0, shift=0.0):
  rng = np.random.default_rng(seed)
  labels = np.arange(num) % classes
  centres = 3 * np.eye(width)[:classes]
  return centres[labels][:, None] + noise * rng.standard_normal(
    (num, windows, width)
  ) + shift, labels


@pytest.mark.parametrize("c", [1e-4, 0.3, 100.0])
@pytest.mark.parametrize("shape", [(60, 5), (300, 4), (20, 40)])
def test_weights_are_where_the_gradient_is_zero(c, shape):
  features, labels = data(shape[0], shape[1], windows=1, noise=2.0)
  rows = features[:, 0]
  weights, intercepts = svm.linear_svm(rows, labels, c)
  assert weights.shape == (shape[1], 3)
  x = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
  for number in range(3):
    sign = np.where(labels == number, 1, -1)
    w = np.r_[weights[:, number], intercepts[number]]
    gradient = w - 2 * c * x.T @ (sign * np.maximum(0, 1 - sign * (x @ w)))
    first = 2 * c * x.T @ sign
    assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(first)
    nearby = w + 1e-3 * np.random.default_rng(0).standard_normal(w.shape)
    assert objective(x, sign, c, w) < objective(x, sign, c, nearby)


def objective(x, sign, c, w):
  return w @ w / 2 + c * np.sum(np.maximum(0, 1 - sign * (x @ w)) ** 2)


def test_two_rows_have_a_closed_form():
  for c in (0.01, 1.0):  # x = ±1 of two classes: w = 4 c / (1 + 4 c), no intercept
    weights, intercepts = svm.linear_svm(np.array([[1.0], [-1.0]]), np.array([1, 0]), c)
    np.testing.assert_allclose(weights[0], [-4 * c / (1 + 4 * c), 4 * c / (1 + 4 * c)], rtol=1e-5)
    np.testing.assert_allclose(intercepts, 0, atol=1e-9)


def test_classes_without_rows_are_never_predicted():
  weights, intercepts = svm.linear_svm(np.eye(3), np.array([0, 3, 3]), 1.0)
  assert set(np.argmax(np.eye(3) @ weights + intercepts, axis=1)) == {0, 3}
  with pytest.raises(ValueError, match="c=0.0; use a positive"):
    svm.linear_svm(np.eye(2), np.arange(2), 0.0)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_classes_are_read_and_shuffled_labels_are_not(protocol):
  train, labels = data()
  test, truth = data(seed=1, windows=3)
  found = svm.probe([Split(train, labels, test, truth)], PROTOCOLS[protocol])
  assert found.mean == 1 and found.interval == (1, 1) and found.count == 60
  shuffled = np.random.default_rng(0).permutation(labels)
  assert svm.probe([Split(train, shuffled, test, truth)], PROTOCOLS[protocol]).mean < 0.6


def test_scaling_is_by_the_training_rows_alone():
  train, labels = data()
  test, truth = data(seed=1)
  factor = np.array([1.0, 100.0, 0.01, 3.0, 1.0])
  base = svm.scores(Split(train, labels, test, truth), PROTOCOLS["mmv"])
  moved = Split(train * factor + 7, labels, test * factor + 7, truth)
  np.testing.assert_allclose(svm.scores(moved, PROTOCOLS["mmv"]), base, rtol=1e-6)
  assert not np.allclose(svm.scores(moved, PROTOCOLS["mil_nce"]), base, rtol=1e-2)
  other = Split(train, labels, np.concatenate([test, 1e6 + test]), np.tile(truth, 2))
  np.testing.assert_allclose(svm.scores(other, PROTOCOLS["mmv"])[:60], base)
  flat = Split(train * [1, 1, 1, 0, 0], labels, test, truth)
  assert np.isfinite(svm.scores(flat, PROTOCOLS["mmv"])).all()


def test_scores_of_windows_are_averaged_and_windows_are_rows():
  train, labels = data(windows=1)
  test, truth = data(seed=1, windows=4)
  together = svm.scores(Split(train, labels, test, truth), PROTOCOLS["brave"])
  apart = [
    svm.scores(Split(train, labels, test[:, k : k + 1], truth), PROTOCOLS["brave"])
    for k in range(4)
  ]
  np.testing.assert_allclose(together, np.mean(apart, axis=0))
  half, again = Protocol(0.5, False), Protocol(1.0, False)
  twice = np.repeat(train, 2, axis=1)  # each row twice at half the price
  np.testing.assert_allclose(
    svm.scores(Split(twice, labels, test, truth), half),
    svm.scores(Split(train, labels, test, truth), again), rtol=1e-6,
  )  # fmt: skip


def test_the_mean_is_over_splits_and_the_interval_is_of_clips():
  train, labels = data()
  test, truth = data(seed=1)
  wrong = truth.copy()
  wrong[:30] = (truth[:30] + 1) % 3
  splits = [Split(train, labels, test, truth), Split(train, labels, test, wrong)]
  found = svm.probe(splits, PROTOCOLS["mmv"], draws=4000)
  assert found.accuracies == (1.0, 0.5) and found.mean == 0.75 and found.count == 120
  half = 1.96 * np.sqrt(0.25 / 60) / 2  # only the second split varies
  np.testing.assert_allclose(found.interval, [0.75 - half, 0.75 + half], atol=0.012)
  assert svm.probe(splits, PROTOCOLS["mmv"], draws=4000) == found


def test_recordings_are_cut_into_equal_windows():
  features = np.arange(14.0)[:, None]
  first = np.zeros(14, bool)
  first[[0, 8]] = True
  found = svm.recording_windows(features, first, 2)
  np.testing.assert_array_equal(found[..., 0], [[1.5, 5.5], [9, 12]])
  first[0] = False  # the first recording began before
  np.testing.assert_array_equal(svm.recording_windows(features, first, 2), found)
  with pytest.raises(ValueError, match="num_windows=7; the shortest recording has 6 ticks"):
    svm.recording_windows(features, first, 7)


def test_features_that_do_not_fit_are_refused():
  train, labels = data()
  with pytest.raises(ValueError, match="no split"):
    svm.probe([], PROTOCOLS["mmv"])
  with pytest.raises(ValueError, match=r"test features \[60, 2, 5\] for \[59\] labels"):
    svm.probe([Split(train, labels, train, labels[1:])], PROTOCOLS["mmv"])
  with pytest.raises(ValueError, match="train features are not finite"):
    svm.probe([Split(train * np.nan, labels, train, labels)], PROTOCOLS["mmv"])
