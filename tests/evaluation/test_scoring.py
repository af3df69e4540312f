"""Scores over data sets: the truth has full marks, known mistakes their known price."""

import time

import data_files
import numpy as np
import pytest
from scenes import moving

from perceiver_stream.evaluation import scoring
from perceiver_stream.evaluation.clips import Clip, score
from perceiver_stream.evaluation.datasets import UNKNOWN, BoxClip, JointClip, MaskClip
from perceiver_stream.evaluation.metrics import davis
from perceiver_stream.evaluation.metrics.streaming import SimulatedClock


def mask_clip(ticks=5, ids=(1, 2), **options):
  return MaskClip(moving(ticks), data_files.masks(ticks, ids=ids, **options).astype(np.int32), "a")


def answers(clips, change=lambda masks: masks):
  """A method that knows the truth and changes it."""
  known = {clip.frames.tobytes(): clip.masks for clip in clips}
  return lambda frames, first: change(known[frames.tobytes()].copy())


# --- masks


def test_the_truth_has_full_marks_and_static_masks_do_not():
  clips = [mask_clip(), mask_clip(8)]
  best = scoring.masks(answers(clips), clips)
  assert best["J&F"] == best["J"] == best["F_recall"] == 1.0 and best["J_decay"] == 0.0
  static = scoring.masks(scoring.static_masks, clips)
  assert 0.3 < static["J"] < 0.9 and static["J_decay"] > 0
  assert static["J&F"] == pytest.approx((static["J"] + static["F"]) / 2)


def test_j_and_f_are_those_of_the_released_evaluation_where_ids_do_not_jump():
  clip, rng = mask_clip(), np.random.default_rng(0)
  noisy = np.where(rng.uniform(size=clip.masks.shape) < 0.1, 0, clip.masks).astype(np.int32)
  found = scoring.masks(lambda frames, first: noisy, [clip])
  expected = davis.objects(clip.masks, noisy)
  for key in "JF":
    assert found[key] == pytest.approx(expected[key].mean())


def test_means_are_over_objects_not_clips_and_without_first_and_last_frame():
  one, two = mask_clip(6, ids=(1,)), mask_clip(5, ids=(1, 2))
  drop = lambda masks: np.where(masks == 2, 0, masks)  # noqa: E731
  found = scoring.masks(answers([one, two], drop), [one, two])
  assert found["J"] == pytest.approx(2 / 3)  # one of three objects is never found

  def ends(masks):
    masks[[0, -1]] = 0
    return masks

  assert scoring.masks(answers([one], ends), [one])["J"] == 1.0


def test_ids_that_jump_make_no_objects_between_them():
  plain, jumping = mask_clip(ids=(1, 2)), mask_clip(ids=(3, 200))
  drop = lambda thing: lambda masks: np.where(masks == thing, 0, masks)  # noqa: E731
  assert scoring.masks(answers([plain], drop(2)), [plain])["J"] == 0.5
  assert scoring.masks(answers([jumping], drop(200)), [jumping])["J"] == 0.5


def test_frames_without_a_mask_and_unknown_pixels_do_not_count():
  clip = mask_clip(7)
  gone = clip.masks.copy()
  gone[3] = UNKNOWN
  gone[:, 30:] = UNKNOWN
  known = clip._replace(masks=gone)

  def wrong(masks):
    masks = clip.masks.copy()
    masks[3], masks[:, 30:] = 0, 1
    return masks

  assert scoring.masks(answers([known], wrong), [known])["J"] == 1.0
  assert scoring.classes(answers([known], wrong), [known])["mIoU"] == 1.0
  first = known.masks[0]
  assert scoring.static_masks(clip.frames, np.maximum(first, 0)).min() == 0


def test_methods_are_not_shown_the_unknown():
  clip = mask_clip()
  clip.masks[0, 0, 0] = UNKNOWN

  def look(frames, first):
    assert first.min() == 0
    return clip.masks

  scoring.masks(look, [clip])


def test_classes_share_one_matrix_over_the_data_set():
  small, large = mask_clip(2, ids=(1,)), mask_clip(6, ids=(1,))
  lose = lambda masks: masks * (len(masks) > 2)  # noqa: E731
  found = scoring.classes(answers([small, large], lose), [small, large], 2)
  area = 8 * 10
  background = 8 * 32 * 32 - 8 * area
  expected = (6 * area / (8 * area) + background / (background + 2 * area)) / 2
  assert found["mIoU"] == pytest.approx(expected)


# --- joints and boxes


def joint_clip(ticks=5):
  joints = np.random.default_rng(2).uniform(4, 20, (1, 15, 2)) + np.arange(ticks)[:, None, None]
  return JointClip(moving(ticks), joints, np.ones((ticks, 15), bool), "a")


def test_joints_are_found_within_a_share_of_the_body():
  clips = [joint_clip(), joint_clip(3)]
  truth = lambda frames, first: (joint_clip(len(frames)).joints, np.ones((len(frames), 15), bool))  # noqa: E731
  assert set(scoring.joints(truth, clips).values()) == {100.0}
  static = list(scoring.joints(scoring.static_joints, clips).values())
  assert static == sorted(static) and static[0] < 100  # a larger threshold finds more

  def one_lost(frames, first):
    joints, there = truth(frames, first)
    joints[:, 0] += 1000
    return joints, there

  assert scoring.joints(one_lost, clips)["PCK@0.1"] == pytest.approx(100 * 14 / 15)


def box_clip():
  boxes = np.zeros((3, 5, 4))
  boxes[0] = [0.2, 0.2, 0.6, 0.6]
  boxes[1] = np.asarray([0.0, 0.0, 0.5, 0.2]) + np.arange(5)[:, None] * [0, 0.1, 0, 0.1]
  present = np.ones((3, 5), bool)
  present[1, :2] = present[2] = False  # the second comes later, the third never
  return BoxClip(moving(5), boxes * present[..., None], present, "a")


def test_boxes_are_asked_for_at_their_first_and_scored_after_it():
  clip, seen = box_clip(), []

  def truth(frames, asked):
    seen.append(asked)
    said = clip.boxes[:2].copy()
    said[0, 0] = said[1, :3] = 0  # before the query and at it, nothing counts
    return said

  assert scoring.boxes(truth, [clip]) == {"IoU": 1.0}
  np.testing.assert_allclose(seen[0], [[0, 0.2, 0.2, 0.6, 0.6], [2, 0.0, 0.2, 0.5, 0.4]])
  # The first stands still; the second has a third of its union left a frame later, then nothing.
  assert scoring.boxes(scoring.static_boxes, [clip])["IoU"] == pytest.approx((1 + (1 / 3) / 2) / 2)


# --- streaming


def point_clip(ticks=8):
  points, occluded = data_files.tracks(ticks=ticks)
  return Clip(moving(ticks), points * 32, occluded)


def knowing(clip):
  """A method that answers each frame with the truth."""
  keep = ~clip.occluded.all(axis=1)
  tracks, hidden = clip.tracks[keep], clip.occluded[keep]
  return lambda frames, asked: lambda t: (tracks[:, t], hidden[:, t])


def test_answers_in_no_time_are_the_offline_ones():
  clip, clock = point_clip(), SimulatedClock()
  found = scoring.streaming(knowing(clip), [clip], 10.0, clock=clock, sleep=clock.sleep)
  for value in found.values():
    np.testing.assert_allclose(value, 1.0)


def test_a_slow_method_is_scored_with_what_it_knew():
  clip, clock = point_clip(), SimulatedClock()
  slow = lambda seconds: lambda *a: clock.taking(knowing(clip)(*a), lambda t: seconds)  # noqa: E731
  score_of = lambda s: scoring.streaming(slow(s), [clip], 1.0, clock=clock, sleep=clock.sleep)  # noqa: E731
  aj = [float(score_of(s)["average_jaccard"][0]) for s in (0.0, 0.9, 100.0)]
  assert aj[0] == 1.0 and aj == sorted(aj, reverse=True) and len(set(aj)) == 3
  # Too late for all: what was asked for is all that is known, as of a static point.
  static = score(lambda f, a: (np.repeat(a[:, None, :0:-1], 8, 1), np.zeros((3, 8), bool)), [clip])
  assert aj[2] == pytest.approx(float(static["average_jaccard"][0]))


def test_the_real_clock_takes_as_long_as_the_clip():
  clip = point_clip(4)
  start = time.perf_counter()
  found = scoring.streaming(knowing(clip), [clip], 20.0)
  assert 0.14 < time.perf_counter() - start < 5
  assert 0 < found["average_jaccard"][0] <= 1


# --- what does not fit


def test_answers_of_another_shape_and_no_clips_are_told():
  clip = mask_clip()
  with pytest.raises(ValueError, match=r"scoring.masks: truth \[5, 32, 32\], answer \[4, 32, 32\]"):
    scoring.masks(lambda frames, first: clip.masks[1:], [clip])
  with pytest.raises(ValueError, match=r"scoring.boxes: truth \[2, 5, 4\], answer \[3, 5, 4\]"):
    scoring.boxes(lambda frames, asked: box_clip().boxes, [box_clip()])
  message = "nothing to score: no clip, or none with what counts"
  short = mask_clip(2)
  for call in (
    lambda: scoring.masks(scoring.static_masks, [short]),
    lambda: scoring.classes(scoring.static_masks, []),
    lambda: scoring.joints(scoring.static_joints, []),
    lambda: scoring.boxes(scoring.static_boxes, []),
  ):
    with pytest.raises(ValueError, match=message):
      call()
