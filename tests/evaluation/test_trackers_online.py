"""Fed piece by piece, a tracker says forwards what it says of the whole video."""

import numpy as np
import pytest
from scenes import moving

from perceiver_stream.evaluation.queries import check_queries, check_queries_for_size
from perceiver_stream.evaluation.trackers import TRACKERS, track
from perceiver_stream.evaluation.trackers_online import OnlineTracker

FRAMES = moving(9, size=48, speed=2)
ASKED = np.asarray([[0, 20.5, 12.5], [3, 30.0, 20.5], [8, 10.5, 10.5], [0, 24.5, 1.0]], np.float64)


@pytest.mark.parametrize("name", list(TRACKERS))
def test_pieces_say_what_the_whole_says(name):
  tracks, hidden = track(FRAMES, ASKED, TRACKERS[name])
  online = OnlineTracker(TRACKERS[name], check_queries(FRAMES, ASKED))
  said = [online(FRAMES[a:b]) for a, b in ((0, 4), (4, 5), (5, 9))]
  found, visible, certainty = (np.concatenate(x, axis=1) for x in zip(*said, strict=True))
  since = np.arange(9) >= ASKED[:, :1]
  np.testing.assert_allclose(found[since], tracks[since], atol=1e-4)
  np.testing.assert_array_equal(visible, ~hidden & since)
  assert np.isnan(found[~since]).all() and np.isnan(certainty).all()


def test_queries_are_checked_before_the_length_is_known():
  np.testing.assert_array_equal(
    check_queries_for_size((48, 48), ASKED), check_queries(FRAMES, ASKED)
  )
  late = np.asarray([[99.0, 1, 1]])
  np.testing.assert_array_equal(check_queries_for_size((48, 48), late), late)
  for bad, message in (
    ((-1.0, 1, 1), r"query 0 \(t=-1, y=1, x=1\) is at a time that is not there; give finite"),
    ((0.0, np.nan, 1), r"is not finite; give finite \(t, y, x\) with t from 0\."),
    ((0.0, 50, 1), "outside the image of 48 x 48 pixels"),
  ):
    with pytest.raises(ValueError, match=message):
      check_queries_for_size((48, 48), np.asarray([bad]), "track")
