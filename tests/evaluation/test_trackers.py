import numpy as np
import pytest
import scenes

from perceiver_stream.evaluation import trackers
from perceiver_stream.evaluation.metrics import tapvid

LEARNT_NOTHING = sorted(trackers.TRACKERS)
FOLLOWING = [name for name in LEARNT_NOTHING if name != "static"]
QUERIES = np.asarray([[0, 30.5, 20.5], [3, 24.25, 30.75], [6, 40.5, 33.0]])


@pytest.fixture(scope="module")
def video():
  return scenes.moving(7, 64, 2)  # everything moves 2 pixels to the right


@pytest.mark.parametrize("name", FOLLOWING)
def test_points_are_followed_forwards_and_backwards(name, video):
  tracks, hidden = trackers.track(video, QUERIES, trackers.TRACKERS[name])
  frames = np.arange(7)
  expected = np.stack(
    [
      QUERIES[:, 2:] + 2 * (frames - QUERIES[:, :1]),
      np.broadcast_to(QUERIES[:, 1:2], (3, 7)),
    ],
    axis=-1,
  )
  np.testing.assert_allclose(tracks, expected, atol=0.35)
  assert not hidden.any()


def test_static_stays(video):
  tracks, hidden = trackers.track(video, QUERIES, trackers.TRACKERS["static"])
  np.testing.assert_array_equal(tracks, np.repeat(QUERIES[:, None, :0:-1], 7, axis=1))
  assert not hidden.any()


@pytest.mark.parametrize("name", LEARNT_NOTHING)
def test_an_answer_does_not_depend_on_the_other_queries(name, video):
  together = trackers.track(video, QUERIES, trackers.TRACKERS[name])
  for i in range(len(QUERIES)):
    alone = trackers.track(video, QUERIES[i : i + 1], trackers.TRACKERS[name])
    np.testing.assert_allclose(alone[0][0], together[0][i], atol=1e-4)
    np.testing.assert_array_equal(alone[1][0], together[1][i])


@pytest.mark.parametrize("name", ["lk_gray", "dis_finest0"])
def test_a_point_that_left_the_picture_stays_lost(name, video):
  leaving = np.asarray([[0, 30.5, 58.5]])
  _, hidden = trackers.track(video, leaving, trackers.TRACKERS[name])
  assert not hidden[0, 0] and hidden[0, -1]
  assert (np.diff(hidden[0].astype(int)) >= 0).all()


def test_a_covered_point_is_hidden_and_found_again():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
  video = np.repeat(noise[:1], 7, axis=0)
  video[2:5, 8:56, 8:56] = noise[1:, 8:56, 8:56]
  query = np.asarray([[0, 32.5, 32.5]])
  _, hidden = trackers.track(video, query, trackers.TRACKERS["template"])
  assert hidden[0].tolist() == [False, False, True, True, True, False, False]


def test_a_point_that_comes_back_is_found_by_its_template(video):
  there_and_back = np.concatenate([video, video[-2::-1]])
  query = np.asarray([[0, 30.5, 56.5]])
  tracks, hidden = trackers.track(there_and_back, query, trackers.TRACKERS["dis_template"])
  assert hidden[0, 6] and not hidden[0, -1]
  np.testing.assert_allclose(tracks[0, -1], [56.5, 30.5], atol=0.5)


def test_a_template_is_not_found_where_there_is_nothing(video):
  blank = video.copy()
  blank[2:] = 127
  _, hidden = trackers.track(blank, QUERIES[:1], trackers.TRACKERS["template"])
  assert hidden[0].tolist() == [False, False, *[True] * 5]


@pytest.mark.parametrize("name", ["template", "dis_template", "lk_template"])
def test_a_template_without_texture_leaves_the_estimate_of_the_motion(name, video):
  flat = np.full_like(video, 127)
  tracks, _ = trackers.track(flat, QUERIES[:1], trackers.TRACKERS[name])
  np.testing.assert_allclose(tracks[0], np.tile(QUERIES[0, :0:-1], (7, 1)), atol=0.01)


@pytest.mark.parametrize("name", LEARNT_NOTHING)
def test_no_query_and_one_frame_are_fine(name, video):
  tracks, hidden = trackers.track(video, np.zeros((0, 3)), trackers.TRACKERS[name])
  assert tracks.shape == (0, 7, 2) and hidden.shape == (0, 7)
  tracks, _ = trackers.track(video[:1], QUERIES[:1], trackers.TRACKERS[name])
  np.testing.assert_allclose(tracks[0, 0], QUERIES[0, :0:-1])


@pytest.mark.parametrize("query", [[7, 5, 5], [-1, 5, 5], [0, np.nan, 5], [np.inf, 5, 5]])
def test_queries_that_cannot_be_answered_are_refused(query, video):
  with pytest.raises(ValueError, match=r"for a video of 7 frames; give finite \(t, y, x\)"):
    trackers.track(video, np.asarray([query], float), trackers.TRACKERS["static"])


def test_sampling_and_tracking_fit_together(video):
  tracks = np.stack([np.linspace(10, 22, 7) + 0.5, np.full(7, 30.5)], axis=-1)[None]
  occluded = np.zeros((1, 7), bool)
  queries, track = tapvid.queries_strided(tracks, occluded, 3)
  said, hidden = trackers.track(video, queries, trackers.TRACKERS["lk_gray"])
  scores = tapvid.scores(queries[None], tracks[track][None], occluded[track][None], said[None], hidden[None], "strided")  # fmt: skip
  assert scores["average_jaccard"][0] > 0.9
