"""What cannot be answered is refused in one way by everything that follows points."""

import numpy as np
import pytest
from scenes import moving

from perceiver_stream.evaluation import clips, trackers
from perceiver_stream.evaluation.clips import Clip
from perceiver_stream.evaluation.queries import check_queries

VIDEO = moving(7, 64)[:, :32]  # 32 rows, 64 columns

BAD = {
  "a frame after the last": (
    [7, 5, 5],
    r"query 1 \(t=7, y=5, x=5\) is at a time that is not there",
  ),
  "a frame before the first": ([-1, 5, 5], r"for a video of 7 frames; give finite \(t, y, x\)"),
  "a time that rounds to no frame": ([6.51, 5, 5], "at a time that is not there"),
  "no number": ([0, np.nan, 5], r"query 1 \(t=0, y=nan, x=5\) is not finite"),
  "no time": ([np.nan, 5, 5], "is not finite, for a video of 7 frames"),
  "endless": ([0, 5, np.inf], "is not finite"),
  "below the picture": (
    [0, 33.5, 5],
    r"outside the image of 32 x 64 pixels; give y from 0 to 32",
  ),
  "right of the image": ([0, 5, 65.5], "outside the image"),
  "left of the image": ([0, 5, -2], "outside the image"),
  "only (y, x)": ([5, 5], r"query points \[2, 2\]; give one row \(t, y, x\) for each"),
}


def asked(query):
  return np.asarray([[3, 3, 3][-len(query) :], query], np.float64)


@pytest.mark.parametrize("name", BAD)
def test_bad_queries_are_refused_by_number_everywhere(name):
  query, message = BAD[name]
  with pytest.raises(ValueError, match=f"^queries: .*{message}"):
    check_queries(VIDEO, asked(query))
  if len(query) == 3:
    with pytest.raises(ValueError, match=f"^track: .*{message}"):
      trackers.track(VIDEO, asked(query), trackers.TRACKERS["static"])


def test_good_queries_come_back_with_whole_times_and_are_not_changed():
  given = np.asarray([[0.5, 0, 0], [6.4, 32, 64], [1.5, -0.9, 64.9]], np.float32)
  before = given.copy()
  found = check_queries(VIDEO, given)
  assert found.dtype == np.float64 and found[:, 0].tolist() == [0, 6, 2]  # half to even
  np.testing.assert_array_equal(found[:, 1:], given[:, 1:])
  np.testing.assert_array_equal(given, before)


def test_no_query_is_no_error():
  assert check_queries(VIDEO, np.zeros((0, 3))).shape == (0, 3)
  nothing = Clip(VIDEO, np.zeros((0, 7, 2)), np.zeros((0, 7), bool))
  hidden = Clip(VIDEO, np.full((2, 7, 2), np.nan), np.ones((2, 7), bool))
  for mode in ("first", "strided"):
    numbers = clips.score(clips.BASELINES["dis_template"], [nothing, hidden], mode)
    assert all(np.isnan(value).all() for value in numbers.values())


def test_a_truth_that_leaves_the_picture_while_visible_is_told():
  tracks = np.full((1, 7, 2), 80.0)
  clip = Clip(VIDEO, tracks, np.zeros((1, 7), bool))
  with pytest.raises(ValueError, match=r"clips.score: query 0 \(t=0, y=80, x=80\) is outside"):
    clips.score(clips.BASELINES["static"], [clip])
  with pytest.raises(ValueError, match=r"clips.score: mode 'last' is not one of \('first', 'str"):
    clips.score(clips.BASELINES["static"], [clip], "last")
