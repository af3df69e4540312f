"""Which of equal values are taken: those of the C++ library, and what that means for labels."""

import json
import pathlib

import numpy as np
import pytest

from perceiver_stream.evaluation.metrics import label_propagation, top_k

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "top_k.npz"


def cases():
  with np.load(GOLDEN) as file:
    values, sizes, ks, chosen = (file[name] for name in ("values", "size", "k", "chosen"))
  for row, size, k, taken in zip(values, sizes, ks, chosen, strict=True):
    yield row[:size].astype(np.float32), int(k), np.flatnonzero(taken)


def test_of_equal_values_those_of_the_library_are_taken():
  stable = []
  for values, k, chosen in cases():
    np.testing.assert_array_equal(np.sort(top_k.top_k(values, k)), chosen)
    stable.append(set(np.argsort(-values, kind="stable")[:k]) == set(chosen))
  assert np.mean(stable) < 0.6  # taking the first of equal values would not do


def test_the_file_says_what_made_it():
  about = json.loads(GOLDEN.with_suffix(".json").read_text())
  with np.load(GOLDEN) as file:
    assert set(file.files) == set(about["arrays"]) and "partial_sort" in about["reference"]


@pytest.mark.parametrize("k", [1, 3, 50])
def test_without_equal_values_it_is_sorting(k):
  values = np.random.default_rng(k).permutation(40).astype(np.float32)
  assert set(top_k.top_k(values, k)) == set(np.argsort(-values)[:k])


def plain(features, labels, num_context, k, temperature=0.7):
  """Label propagation patch by patch, every choice by `top_k`."""
  frames, count = len(features), labels.shape[0] * labels.shape[1]
  flat = features.reshape(frames, count, -1).astype(np.float32)
  first = labels.reshape(count, -1)
  memory, out = [(0, first)] * num_context, []
  for frame in range(frames):
    context = [(0, first), *memory]
    given = np.concatenate([label for _, label in context])
    handed = []
    for patch in range(count):
      query = flat[frame, patch] / np.float32(temperature)
      affinity = np.concatenate([flat[index] @ query for index, _ in context])
      best = top_k.top_k(affinity, k)
      weights = np.exp(affinity[best].astype(np.float64))
      handed.append(weights @ given[best] / weights.sum())
    memory = [*memory, (frame, np.stack(handed))][1:]
    out.append(handed)
  return np.reshape(out, (*features.shape[:3], -1))


@pytest.mark.parametrize("num_context, k", [(2, 5), (4, 3), (1, 2)])
def test_copies_of_the_first_frame_tie_and_are_chosen_as_in_the_source(num_context, k):
  rng = np.random.default_rng(0)
  features = rng.integers(-2, 3, (4, 3, 4, 5)) / 4  # exact in float32, in any order of adding
  labels = rng.dirichlet(np.ones(3), (3, 4))
  settings = label_propagation.Settings(num_context=num_context, top_k=k, use_radius=False)
  handed = label_propagation.propagate(features, labels, settings)
  np.testing.assert_allclose(handed, plain(features, labels, num_context, k), atol=1e-6)
