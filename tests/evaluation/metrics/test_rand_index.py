"""The adjusted Rand index, against the definition by pairs."""

import itertools
import math

import numpy as np
import pytest

from perceiver_stream.evaluation.metrics.rand_index import adjusted_rand_index, foreground_ari

RNG = np.random.default_rng(0)


def by_pairs(a, b):
  """Returns the index from the definition: agreement of all pairs, corrected for chance."""
  pairs = list(itertools.combinations(range(len(a)), 2))
  same_a = np.array([a[i] == a[j] for i, j in pairs])
  same_b = np.array([b[i] == b[j] for i, j in pairs])
  expected = same_a.sum() * same_b.sum() / len(pairs)
  return ((same_a & same_b).sum() - expected) / ((same_a.sum() + same_b.sum()) / 2 - expected)


@pytest.mark.parametrize("num", [2, 3, 7, 20])
def test_it_is_the_definition_by_pairs(num):
  for _ in range(5):
    a, b = RNG.integers(0, 3, (2, num))
    if len({*a}) == len({*b}) == 1:
      continue
    if len({*a}) == len({*b}) == num:
      continue
    assert adjusted_rand_index(a, b) == pytest.approx(by_pairs(a, b))


def test_names_do_not_matter_and_equal_partitions_are_1():
  a = RNG.integers(0, 4, 50)
  assert adjusted_rand_index(a, (7 - a) * 3) == 1
  assert adjusted_rand_index(a, RNG.integers(0, 4, 50)) < 0.2
  assert adjusted_rand_index(np.zeros(5, int), np.ones(5, int)) == 1
  assert math.isnan(adjusted_rand_index(np.zeros(0, int), np.zeros(0, int)))


def test_the_background_is_left_out_and_objects_keep_their_number():
  truth = np.zeros((3, 2, 4, 4), int)
  truth[:, :, 0], truth[:, :, 1] = 1, 2
  right = truth + 5
  right[:, :, 2:] = RNG.integers(0, 9, (3, 2, 2, 4))  # anything goes in the background
  np.testing.assert_array_equal(foreground_ari(truth, right), 1)
  swapped = right.copy()
  swapped[:, 1, :2] = 13 - swapped[:, 1, :2]
  assert np.all(foreground_ari(truth, swapped) < 0.1)
  assert np.isnan(foreground_ari(np.zeros((1, 2), int), np.zeros((1, 2), int)))
  with pytest.raises(ValueError, match="differ in shape"):
    foreground_ari(truth, right[:, :1])
