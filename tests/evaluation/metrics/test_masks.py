"""What the metrics of masks, and labels handed on, promise beyond the golden numbers."""

import numpy as np
import pytest

from perceiver_stream.evaluation.metrics import davis, label_propagation, miou, pck, resize


@pytest.fixture
def rng():
  return np.random.default_rng(1)


def slow_dilate(mask, radius):
  y, x = np.nonzero(mask)
  rows, columns = np.indices(mask.shape)
  near = (rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2 <= radius**2
  return near.any(axis=-1)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_dilation_is_by_a_disk(radius, rng):
  mask = rng.uniform(size=(11, 17)) < 0.03
  mask[0, 0] = True
  np.testing.assert_array_equal(davis.dilate(mask, radius), slow_dilate(mask, radius))


def test_masks_score_the_same_mirrored_names_and_symmetric():
  rng = np.random.default_rng(3)
  arrays = davis.METRIC.example(rng)
  j = davis.jaccard(arrays["gt"], arrays["pred"])
  np.testing.assert_array_equal(davis.jaccard(arrays["pred"], arrays["gt"]), j)
  f = davis.boundary_f(arrays["gt"], arrays["pred"])
  np.testing.assert_allclose(davis.boundary_f(arrays["pred"], arrays["gt"]), f)


def test_a_larger_tolerance_never_scores_worse():
  arrays = davis.METRIC.example(np.random.default_rng(4))
  scores = [davis.boundary_f(**arrays, tolerance=t) for t in (1, 2, 4, 8)]
  assert (np.diff(scores, axis=0) >= 0).all()


def test_empty_masks_agree_and_nothing_agrees_with_something():
  none, some = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
  some[0, 3:6, 3:6] = True
  for measure in (davis.jaccard, davis.boundary_f):
    assert measure(none, none) == 1 and measure(none, some) == 0 and measure(some, none) == 0


def test_void_pixels_do_not_count():
  gt, pred, void = (np.zeros((1, 12, 12), bool) for _ in range(3))
  gt[0, 2:8, 2:8], pred[0, 2:8, 2:10], void[0, :, 8:] = True, True, True
  assert davis.jaccard(gt, pred) < 1 and davis.jaccard(gt, pred, void) == 1
  assert davis.boundary_f(gt, pred, void) == 1


def test_long_clips_have_their_last_quarter_at_the_end():
  per_frame = np.concatenate([np.ones(300), np.zeros(100)])
  assert davis.statistics(per_frame[None])[0, 2] == pytest.approx(1.0, abs=0.02)


def test_classes_that_do_not_occur_are_left_out_and_strange_ones_refused():
  gt, pred = np.asarray([0, 0, 2, 9]), np.asarray([0, 2, 2, 0])
  matrix = miou.confusion(gt, pred, 4)
  np.testing.assert_allclose(miou.iou_per_class(matrix), [0.5, np.nan, 0.5, np.nan])
  assert miou.mean_iou(matrix) == 0.5
  with pytest.raises(ValueError, match="predictions from 0 to 9 for 4 classes"):
    miou.confusion(pred, gt, 4)


def one_hot_features(rng, frames=6, grid=(5, 7)):
  """Features that say which patch they are, moved by one patch a frame."""
  size = grid[0] * grid[1]
  first = np.eye(size).reshape(*grid, size)
  return np.stack([np.roll(first, t, axis=1) for t in range(frames)])


def test_labels_follow_features_that_move(rng):
  features = one_hot_features(rng)
  labels = np.zeros((5, 7, 2))
  labels[..., 0], labels[2, 1] = 1, [0, 1]
  settings = label_propagation.Settings(top_k=1, num_context=3)
  handed = label_propagation.propagate(features, labels, settings)
  for t in range(6):
    np.testing.assert_allclose(handed[t], np.roll(labels, t, axis=1))


def test_a_radius_keeps_labels_from_jumping_save_from_the_first_frame(rng):
  features = one_hot_features(rng, frames=3)
  features[1], features[2] = np.roll(features[0], 4, axis=0), np.roll(features[0], 4, axis=1)
  labels = np.eye(35).reshape(5, 7, 35)
  near = label_propagation.Settings(top_k=1, num_context=2, radius=1.5)
  np.testing.assert_allclose(
    label_propagation.propagate(features, labels, near)[2], np.roll(labels, 4, axis=1)
  )


def test_labels_are_shares_and_stretching_makes_the_best_one(rng):
  features = rng.normal(size=(4, 5, 7, 8))
  labels = rng.dirichlet(np.ones(3), (5, 7))
  handed = label_propagation.propagate(features, labels)
  np.testing.assert_allclose(handed.sum(axis=-1), 1)
  settings = label_propagation.Settings(use_norm=True)
  stretched = label_propagation.propagate(features, labels, settings)
  np.testing.assert_allclose(stretched.max(axis=-1), 1)
  np.testing.assert_allclose(stretched.min(axis=-1), 0, atol=1e-12)


def test_features_and_labels_need_the_same_grid():
  with pytest.raises(ValueError, match=r"different grids; resize the labels to \[4, 5\]"):
    label_propagation.propagate(np.zeros((2, 4, 5, 3)), np.zeros((5, 5, 2)))


def test_masks_that_fill_patches_come_back_exactly():
  mask = np.kron(np.asarray([[0, 3], [7, 7]]), np.ones((48, 48), int))
  labels, ids = label_propagation.masks_to_labels(mask, (6, 6))
  assert ids.tolist() == [0, 3, 7]
  again = label_propagation.labels_to_masks(labels[None], ids, mask.shape)
  assert np.mean(again[0] != mask) < 0.02


def test_a_joint_is_found_where_it_was_put():
  pose = np.asarray([[40.0, 60.0], [100.0, 20.0], [-500.0, 10.0]])
  labels = label_propagation.pose_to_labels(pose, (12, 16), (120, 160))
  np.testing.assert_array_equal(labels[..., 0], labels[..., 1:].sum(axis=-1) == 0)
  found, visible = label_propagation.labels_to_pose(labels[None], (120, 160), num_best=1)
  assert visible[0].tolist() == [True, True, False]
  assert np.abs(found[0, :2] - pose[:2]).max() <= 10  # a patch
  assert found[0, 2].tolist() == [-1, -1]


def test_a_joint_that_is_never_seen_is_nan_and_the_first_frame_is_free():
  gt = np.zeros((3, 2, 2)) + np.asarray([[0.0, 0], [10, 0]])
  pred = gt.copy()
  pred[0] += 99
  visible = np.ones((3, 2), bool)
  assert pck.pck([gt], [pred], [visible], 0.1).tolist() == [100, 100]
  visible[:, 1] = False
  assert np.isnan(pck.pck([gt], [pred], [visible], 0.1)[1])


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (20, 7), (1, 1)])
def test_resizing_keeps_constants_and_gradients(size, rng):
  flat = np.full((8, 8, 2), 3.0)
  for resized in (resize.bilinear(flat, size), resize.nearest(flat, size)):
    assert resized.shape == (*size, 2) and (resized == 3).all()
  ramp = np.arange(8.0)[:, None] * np.ones(8)
  middle = resize.bilinear(ramp, (16, 16))[1:-1]
  np.testing.assert_allclose(np.diff(middle, axis=0), 0.5)


@pytest.mark.parametrize(("old", "new"), [((6, 9), (13, 5)), ((10, 10), (4, 20))])
def test_resizing_is_that_of_opencv(old, new, rng):
  import cv2

  picture = rng.uniform(size=old)
  linear = cv2.resize(picture, new[::-1], interpolation=cv2.INTER_LINEAR)
  np.testing.assert_allclose(resize.bilinear(picture, new), linear, atol=1e-6)
  corner = cv2.resize(picture, new[::-1], interpolation=cv2.INTER_NEAREST)
  np.testing.assert_array_equal(resize.nearest(picture, new), corner)
