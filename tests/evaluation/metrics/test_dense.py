"""What the metrics of depth, flow, pictures, sound and boxes promise beyond the golden numbers."""

import numpy as np
import pytest

from perceiver_stream.evaluation.metrics import audio, boxes, depth, flow, image


@pytest.fixture
def rng():
  return np.random.default_rng(1)


@pytest.mark.parametrize(
  ("alignment", "change"),
  [
    ("median", lambda d: 3 * d),
    ("scale_lsq", lambda d: 0.2 * d),
    ("scale_shift", lambda d: 2 * d + 1),
    ("scale_shift_disparity", lambda d: 1 / (0.5 / d + 0.2)),
  ],
)
def test_each_alignment_undoes_its_change_and_none_does_not(alignment, change, rng):
  gt = rng.uniform(1, 9, (2, 6, 7))
  table, applied = depth.scores(gt, change(gt), alignment=alignment)
  np.testing.assert_allclose(table[:, 0], 0, atol=1e-9)
  assert np.isfinite(applied).all()
  assert (depth.scores(gt, change(gt))[0][:, 0] > 0.05).all()


def test_unknown_depth_does_not_count(rng):
  gt = rng.uniform(1, 9, (2, 6, 7))
  pred = gt.copy()
  gt[0, 0], gt[0, 1, 0], pred[0, :2] = 0.0, np.inf, np.nan
  mask = np.ones(gt.shape, bool)
  mask[0, 1] = False
  assert np.isfinite(depth.scores(gt, pred, mask)[0]).all()
  assert np.isnan(depth.scores(gt, pred, np.zeros(gt.shape, bool))[0]).all()
  with pytest.raises(ValueError, match="alignment 'scale' is not one of"):
    depth.scores(gt, pred, alignment="scale")


def test_flow_outliers_need_both_rules():
  gt = np.asarray([[[[100.0, 0], [100, 0], [0, 0], [0, 0], [10, 0]]]])
  pred = gt + np.asarray([4.0, 6, 2, 4, 3])[:, None] * [1, 0]
  np.testing.assert_array_equal(flow.errors(gt, pred)[1][0, 0], [False, True, False, True, False])


def test_pictures_without_a_known_pixel_are_nan_and_left_out(rng):
  gt = rng.normal(size=(2, 4, 5, 2))
  valid = np.ones((2, 4, 5), bool)
  valid[1] = False
  per_image = flow.per_image_scores(gt, gt + 1, valid)
  assert np.isnan(per_image[1]).all()
  scores = flow.scores(gt, gt + 1, valid)
  assert np.isnan(scores["epe_mean_over_images"])  # as the released code has it
  assert scores["epe_all_pixels"] == pytest.approx(np.sqrt(2)) and scores["px3"] == 1
  none = flow.scores(gt[:0], gt[:0])
  assert all(np.isnan(value) for value in none.values())


def test_psnr_of_a_known_error():
  target = np.zeros((2, 4, 4, 3))
  np.testing.assert_allclose(image.psnr(target + 0.1, target), 20)
  np.testing.assert_allclose(image.psnr(target, target), 100)
  assert np.isinf(image.psnr(target, target, mse_floor=0.0)).all()


def test_ssim_is_symmetric_and_falls_with_noise(rng):
  target = rng.uniform(size=(1, 20, 24, 3))
  noise = rng.normal(size=target.shape)
  values = [image.ssim(target + k * noise, target)[0] for k in (0, 0.05, 0.1, 0.3)]
  assert values[0] == pytest.approx(1) and (np.diff(values) < 0).all()
  np.testing.assert_allclose(image.ssim(target, target + 0.1 * noise), values[2])


def test_ssim_of_a_picture_smaller_than_its_window_is_refused():
  with pytest.raises(ValueError, match=r"\[1, 8, 20, 3\] are smaller than the window of 11"):
    image.ssim(np.zeros((1, 8, 20, 3)), np.zeros((1, 8, 20, 3)))


def test_ten_times_the_energy_is_ten_db():
  quiet = np.full((2, 3, 8), -5.0)
  np.testing.assert_allclose(audio.log_spectral_distance(quiet + np.log(10), quiet), 10.0)


def test_boxes_that_share_half():
  first, second = np.asarray([0.0, 0, 2, 1]), np.asarray([1.0, 0, 3, 1])
  assert boxes.iou(first, second) == pytest.approx(1 / 3)
  assert boxes.giou(first, second) == pytest.approx(1 / 3)
  far = np.asarray([3.0, 0, 4, 1])
  assert boxes.iou(first, far) == 0 and boxes.giou(first, far) == pytest.approx(-0.25)
  empty = np.zeros(4)
  assert boxes.iou(empty, empty) == 0


def test_only_frames_after_the_first_in_which_a_box_is_there_count():
  gt = np.tile(np.asarray([0.0, 0, 1, 1]), (1, 5, 1, 1))
  present = np.asarray([0, 1, 1, 0, 1], bool)[None, :, None]
  frame_iou, counted = boxes.track_iou(gt, gt, present)
  assert counted[0, :, 0].tolist() == [False, False, True, False, True]
  assert boxes.track_means(frame_iou, counted)["mean_over_videos"] == 1


def test_average_precision_of_perfect_reversed_and_no_detections(rng):
  gt = np.concatenate([np.zeros((4, 2)), rng.uniform(0, 9, (4, 2)), np.ones((4, 2))], axis=1)
  gt[:, 0] = np.arange(4)
  found = np.concatenate([gt, rng.uniform(size=(4, 1))], axis=1)
  assert boxes.average_precision(gt, found).mean() == pytest.approx(1)
  assert boxes.average_precision(gt, found[::-1]).mean() == pytest.approx(1)
  assert boxes.average_precision(gt, found[:0]).mean() == 0
  wrong = found.copy()
  wrong[:, 2] += 50
  assert boxes.average_precision(gt, wrong).mean() == 0


def test_false_detections_only_hurt_if_they_are_surer(rng):
  gt = np.asarray([[0.0, 1, 0, 0, 2, 2]])
  found = np.asarray([[0.0, 1, 0, 0, 2, 2, 0.5], [0, 1, 9, 9, 2, 2, 0.1]])
  assert boxes.average_precision(gt, found).mean() == pytest.approx(1)
  found[1, -1] = 0.9
  assert boxes.average_precision(gt, found).mean() == pytest.approx(0.5)


def test_each_truth_is_found_once():
  gt = np.asarray([[0.0, 1, 0, 0, 2, 2], [0, 1, 5, 5, 2, 2]])
  found = np.asarray([[0.0, 1, 0, 0, 2, 2, 0.9], [0, 1, 0, 0, 2, 2, 0.8]])
  assert boxes.average_precision(gt, found, (0.5,))[0, 0] == pytest.approx(51 / 101)


def test_boxes_by_corners_and_by_middles_are_the_same_boxes(rng):
  low = rng.uniform(0, 0.6, (4, 3, 2))
  corners = np.concatenate([low, low + rng.uniform(0.1, 0.4, low.shape)], axis=-1)
  middles = boxes.middles_of(corners)
  np.testing.assert_allclose(boxes.corners_of(middles), corners)
  np.testing.assert_allclose(middles[..., 2] * middles[..., 3], boxes.area(corners))
  np.testing.assert_allclose(boxes.middles_of(np.array([0.1, 0.2, 0.5, 0.8])), [0.5, 0.3, 0.6, 0.4])


def test_boxes_around_masks_hold_all_of_them_and_no_more():
  masks = np.zeros((3, 4, 8), bool)
  masks[0, 1:3, 2:7] = True
  masks[1, 3, 0] = masks[1, 0, 7] = True
  expected = [[0.25, 0.25, 0.75, 0.875], [0, 0, 1, 1], [0, 0, 0, 0]]
  np.testing.assert_allclose(boxes.around(masks), expected)
