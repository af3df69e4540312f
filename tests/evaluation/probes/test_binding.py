"""Binding tells latents that follow from latents that stay, and says what chance has."""

import numpy as np
import pytest

from perceiver_stream.evaluation.probes import binding

TICKS, GRID = 12, (8, 8)


def square_masks(paths, side=64, size=16):
  """Returns masks of squares whose upper left corners are at (x, y) of each tick."""
  masks = np.zeros((TICKS, side, side), np.int32)
  for number, path in enumerate(paths, 1):
    for t, (x, y) in enumerate(path):
      masks[t, y : y + size, x : x + size] = number
  return masks


def two_things():
  """Returns masks of one thing that goes right and one that goes up; both move all the time."""
  t = np.arange(TICKS)
  right = np.stack([2 * t, np.full(TICKS, 4)], axis=1)
  up = np.stack([np.full(TICKS, 46), 40 - 3 * t], axis=1)
  return square_masks([right, up])


def perfect_maps(targets):
  """Returns latents that attend to the targets, then one that attends to everything."""
  even = np.ones((1, *targets.inside.shape[1:]))
  return np.swapaxes(np.concatenate([targets.inside, even / even[0, 0].size]), 0, 1)


def test_things_are_where_their_masks_are():
  targets = binding.objects(two_things(), GRID)
  assert targets.counted.all()
  np.testing.assert_allclose(targets.tracks[0, :, 0], (2 * np.arange(TICKS) + 8) / 64)
  np.testing.assert_allclose(targets.tracks[0, :, 1], 12 / 64)
  np.testing.assert_allclose(targets.inside[0].sum(axis=(1, 2)), 4)  # cells of 64 pixels
  assert targets.inside[0, 0, 0, 0] == 0.5 and targets.inside[0, 0, 1, 1] == 1


def test_what_hardly_shows_does_not_count():
  masks = two_things()
  masks[3][masks[3] == 1] = 0
  masks[3, 0, :8] = 1
  targets = binding.objects(masks, GRID)
  assert not targets.counted[0, 3] and targets.counted.sum() == 2 * TICKS - 1


def test_latents_that_follow_score_full_marks():
  targets = binding.objects(two_things(), GRID)
  found = binding.follow(perfect_maps(targets), targets)
  np.testing.assert_allclose(found.correlation, 1, atol=1e-3)
  np.testing.assert_array_equal(found.stability, 1)
  assert np.max(found.distance) < 0.01 < np.min(found.random_distance)
  np.testing.assert_array_equal(found.elsewhere, 0)


def test_latents_that_swap_are_found_out():
  targets = binding.objects(two_things(), GRID)
  maps = perfect_maps(targets)
  maps[6:, :2] = maps[6:, 1::-1].copy()
  found = binding.follow(maps, targets)
  np.testing.assert_allclose(found.stability, 5 / 11)
  assert np.max(found.correlation) < 0.95 and np.min(found.distance) > 0.1


def test_a_latent_that_leads_everywhere_is_found_out():
  targets = binding.objects(two_things(), GRID)
  maps = np.ones((TICKS, 3, *GRID))
  maps[:, 1] = 2
  found = binding.follow(maps, targets)
  np.testing.assert_array_equal(found.stability, 1)
  np.testing.assert_array_equal(found.elsewhere, 1)


def test_fixed_places_have_no_correlation_and_stay_while_the_thing_does():
  targets = binding.objects(two_things(), GRID)
  found = binding.follow(binding.static_maps(TICKS, GRID), targets)
  np.testing.assert_array_equal(found.correlation, 0)
  np.testing.assert_array_equal(found.random_correlation, 0)
  assert np.all(found.stability < 0.2)  # things leave the cell that they fill
  stay = binding.objects(square_masks([np.full((TICKS, 2), 16)]), GRID)
  still = binding.follow(binding.static_maps(TICKS, GRID), stay)
  np.testing.assert_array_equal(still.stability, 1)
  assert np.isnan(still.correlation).all()  # nothing to go along with
  assert np.isnan(still.elsewhere).all()
  assert still.distance[0] < still.random_distance[0]


def test_a_point_is_followed_from_the_tick_it_is_first_seen_at():
  t = np.arange(TICKS) / TICKS
  tracks = np.stack([np.stack([t, 0.5 + 0 * t], -1), np.stack([0.2 + 0 * t, t - 0.4], -1)])
  visible = np.ones((2, TICKS), bool)
  visible[0, :3] = False
  targets = binding.points(tracks, visible, GRID)
  np.testing.assert_array_equal(targets.counted[0], t >= 0.25)
  np.testing.assert_array_equal(targets.counted[1], t >= 0.4)  # above the picture before
  np.testing.assert_array_equal(targets.inside.sum(axis=(2, 3)), targets.counted)
  assert targets.inside[0, 3, 4, 2] == 1
  found = binding.follow(perfect_maps(targets), targets, min_ticks=5)
  np.testing.assert_array_equal(found.stability, 1)
  assert np.min(found.correlation) > 0.95
  assert len(binding.follow(perfect_maps(targets), targets, min_ticks=8).stability) == 1


def test_correlation_is_numpys():
  rng = np.random.default_rng(0)
  centres, track = rng.uniform(size=(20, 3, 2)), rng.uniform(size=(20, 2))
  expected = [
    np.mean([np.corrcoef(centres[:, n, axis], track[:, axis])[0, 1] for axis in (0, 1)])
    for n in range(3)
  ]
  np.testing.assert_allclose(binding.correlation(centres, track), expected)


def test_clips_are_joined_and_what_does_not_fit_is_refused():
  targets = binding.objects(two_things(), GRID)
  one = binding.follow(perfect_maps(targets), targets)
  assert len(binding.join([one, one]).distance) == 4
  nothing = binding.follow(perfect_maps(targets), targets, min_ticks=TICKS + 1)
  assert len(binding.join([one, nothing]).distance) == 2
  with pytest.raises(ValueError, match=r"maps of 12 ticks on a \[4, 4\] grid do not fit targets"):
    binding.follow(binding.static_maps(TICKS, (4, 4)), targets)


def test_a_latent_that_attends_to_nothing_is_in_the_middle():
  np.testing.assert_array_equal(binding.centroids(np.zeros((1, 1, 3, 3))), 0.5)
