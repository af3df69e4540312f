"""Probes of frozen features in closed form."""

import numpy as np
import pytest

from perceiver_stream.evaluation.probes import features

RNG = np.random.default_rng(0)
CENTRES = 5 * np.eye(4)[:3]
LABELS = np.arange(60) % 3
POINTS = CENTRES[LABELS] + 0.1 * RNG.standard_normal((60, 4))


@pytest.mark.parametrize("probe", [features.nearest_neighbours, features.linear_probe])
def test_separate_classes_are_read_and_random_features_are_not(probe):
  found = probe(POINTS[:30], LABELS[:30], POINTS[30:])
  assert features.accuracy(found, LABELS[30:]) == 1
  noise = RNG.standard_normal((600, 4))
  labels = RNG.integers(0, 3, 600)
  assert features.accuracy(probe(noise[:300], labels[:300], noise[300:]), labels[300:]) < 0.45


def test_neighbours_vote_by_similarity_and_length_does_not_matter():
  train, labels = np.array([[1.0, 0], [0.2, 1], [0.1, 1]]), np.array([0, 1, 1])
  test = np.array([[7.0, 0.1], [0.0, 3.0]])
  assert features.nearest_neighbours(train, labels, test, k=3).tolist() == [0, 1]
  assert features.nearest_neighbours(train, labels, test, k=99).tolist() == [0, 1]
  with pytest.raises(ValueError, match="k=0"):
    features.nearest_neighbours(train, labels, test, k=0)


def test_a_linear_probe_ignores_scale_and_offset():
  moved = POINTS * np.array([1.0, 100.0, 0.01, 3.0]) + 7
  one = features.linear_probe(POINTS[:30], LABELS[:30], POINTS[30:])
  two = features.linear_probe(moved[:30], LABELS[:30], moved[30:])
  np.testing.assert_array_equal(one, two)


def test_recall_counts_queries_with_a_relevant_item():
  x = np.eye(4)
  assert features.recall_at(x, x, np.eye(4), 1) == 1
  shifted = np.roll(np.eye(4), 1, axis=1)
  assert features.recall_at(x, x, shifted, 1) == 0
  assert features.recall_at(x, x, shifted, 4) == 1


def test_clusters_against_labels():
  assert features.purity(LABELS, LABELS) == 1
  assert features.mutual_information((LABELS + 1) % 3, LABELS) == pytest.approx(1)
  one = np.zeros(60, np.int64)
  assert features.purity(one, LABELS) == pytest.approx(1 / 3)
  assert features.mutual_information(one, LABELS) == 0 == features.mutual_information(one, one)
  halves = np.array([0, 0, 1, 1])
  assert features.mutual_information(halves, np.array([0, 1, 0, 1])) == pytest.approx(0)
  quarters = np.arange(4)  # I = log 2; entropies log 4 and log 2
  assert features.mutual_information(quarters, halves) == pytest.approx(2 / 3)


def test_the_interval_holds_the_mean():
  right = np.r_[np.ones(80), np.zeros(20)]
  low, high = features.bootstrap_interval(right)
  assert low < 0.8 < high and high - low == pytest.approx(0.157, abs=0.04)
  assert features.bootstrap_interval(np.ones(9)) == (1, 1)
