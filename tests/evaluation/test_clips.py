"""Clips come out of streams whole, and methods are scored as TAP-Vid does, at its raster."""

import numpy as np
import pytest
from scenes import moving

from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.clips import BASELINES, Clip


def ticks(num=20, recording=8, size=32):
  """Yields ticks of recordings in which all moves right by one pixel a tick."""
  video = moving(num, size)
  for t in range(num):
    inside = t % recording
    points = np.array([[8.5, 16.5], [20.5, 9.5], [4.5, 25.5]]) + (inside, 0)
    yield {
      "pixels": video[t],
      "points": points.astype(np.float32),
      "points_visible": np.array([True, True, inside > 2]),
      "points_id": np.array([1, 2, 3 if inside < 4 or t < recording else 4], np.int32),
      "is_first": np.bool_(inside == 0),
    }


def test_clips_are_pieces_of_one_recording():
  whole = list(clips.from_ticks(ticks(), 8))
  assert [len(c.frames) for c in whole] == [8, 8]  # the third recording has four ticks
  assert [len(c.tracks) for c in whole] == [3, 2]  # a slot of the second was given away
  assert [len(c.frames) for c in clips.from_ticks(ticks(), 3)] == [3] * 5
  np.testing.assert_array_equal(whole[0].occluded[2], np.arange(8) < 3)


def test_the_truth_scores_full_marks_and_a_static_point_does_not():
  clip = next(clips.from_ticks(ticks(), 8))
  truth = clips.score(lambda frames, asked: (clip.tracks, clip.occluded), [clip])
  for key in clips.SHOWN:
    np.testing.assert_allclose(truth[key], 1.0)
  static = clips.score(BASELINES["static"], [clip])
  # Eight pixels a tick at 256: only the first tick after the query is within sixteen (and, not
  # strictly, the second).
  np.testing.assert_allclose(static["pts_within_16"], [3 / 18])
  assert static["occlusion_accuracy"] == 1.0


@pytest.mark.parametrize("name", ["lk_gray", "dis_finest0", "template", "dis_template"])
@pytest.mark.parametrize("mode", ["first", "strided"])
def test_baselines_follow_what_is_easy(name, mode):
  clip = next(clips.from_ticks(ticks(), 8))
  numbers = clips.score(BASELINES[name], [clip], mode)
  static = clips.score(BASELINES["static"], [clip], mode)
  assert numbers["average_jaccard"] > static["average_jaccard"] + 0.2


def test_the_size_of_the_picture_does_not_matter():
  clip = next(clips.from_ticks(ticks(), 8))
  off = lambda by: lambda frames, asked: (clip.tracks + by, clip.occluded)  # noqa: E731
  double = Clip(np.repeat(np.repeat(clip.frames, 2, 1), 2, 2), clip.tracks * 2, clip.occluded)
  twice = lambda frames, asked: ((clip.tracks + 0.3) * 2, clip.occluded)  # noqa: E731
  one, two = clips.score(off(0.3), [clip]), clips.score(twice, [double])
  for key in one:
    np.testing.assert_allclose(one[key], two[key])
  assert one["pts_within_4"] == 1.0 and one["pts_within_2"] == 0.0  # 0.3 · √2 · 8 = 3.4 pixels


def test_the_table_is_in_percent_and_leaves_out_what_has_no_value():
  numbers = {k: np.array([0.5, np.nan, 0.25]) for k in clips.SHOWN}
  assert clips.table({"ours": numbers}).splitlines()[-1] == "| ours | 37.5 | 37.5 | 37.5 |"
