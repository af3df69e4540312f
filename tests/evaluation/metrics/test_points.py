"""What the metrics of points and of streaming promise beyond the golden numbers."""

import numpy as np
import pytest

from perceiver_stream.evaluation.metrics import base, redetection, streaming, tapvid


@pytest.fixture
def rng():
  return np.random.default_rng(1)


def test_ratio_and_mean_know_what_is_missing():
  np.testing.assert_array_equal(base.ratio(np.asarray([0, 1, 2]), np.asarray([0, 0, 4])), [np.nan, np.inf, 0.5])  # fmt: skip
  assert base.nanmean(np.asarray([1, np.nan, 3])) == 2
  assert np.isnan(base.nanmean(np.asarray([np.nan])))


def one_track(errors, hidden=(), said_hidden=()):
  frames = len(errors)
  occluded = np.zeros((1, 1, frames), bool)
  said = occluded.copy()
  occluded[..., list(hidden)], said[..., list(said_hidden)] = True, True
  tracks = np.full((1, 1, frames, 2), 50.0)
  moved = tracks + np.asarray(errors)[:, None] * [1, 0]
  return {
    "query_points": np.asarray([[[0, 50.0, 50.0]]]),
    "gt_tracks": tracks,
    "gt_occluded": occluded,
    "pred_tracks": moved,
    "pred_occluded": said,
  }


def test_a_visible_but_far_prediction_is_punished_twice():
  scores = tapvid.scores(**one_track([0, 0, 0, 100, 0]))
  assert scores["jaccard_1"][0] == pytest.approx(3 / 5)  # 3 right, 4 there + 1 false
  assert scores["pts_within_1"][0] == pytest.approx(3 / 4)


def test_frames_before_the_query_are_free_in_first_and_count_in_strided():
  arrays = one_track([100, 100, 0, 0, 0])
  arrays["query_points"] = np.asarray([[[2, 50.0, 50.0]]])
  assert tapvid.scores(**arrays)["average_jaccard"][0] == 1
  assert tapvid.scores(**arrays, mode="strided")["average_jaccard"][0] < 0.5


def test_thresholds_are_strict_in_tapvid_and_not_in_redetection():
  arrays = one_track([0, 0, 2, 2, 2], hidden=[1])
  assert tapvid.scores(**arrays)["pts_within_2"][0] == 0
  del arrays["query_points"]
  assert redetection.redetection(**arrays).by_threshold[1, 0] == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_scores_do_not_depend_on_the_order_of_points_or_on_the_other_points(axis, rng):
  arrays = tapvid.METRIC.example(rng)
  turned = {name: np.flip(value, axis=1) for name, value in arrays.items()}
  for key, value in tapvid.scores(**arrays).items():
    np.testing.assert_allclose(tapvid.scores(**turned)[key], value)
  alone = {name: value[:, :1] for name, value in arrays.items()}
  by_track = tapvid.scores(**arrays, trackwise=True)
  for key, value in tapvid.scores(**alone).items():
    np.testing.assert_array_equal(value, by_track[key][:, 0])


def test_larger_errors_never_score_better(rng):
  arrays = tapvid.METRIC.example(rng)
  off = arrays["pred_tracks"] - arrays["gt_tracks"]
  scores = [
    tapvid.scores(**(arrays | {"pred_tracks": arrays["gt_tracks"] + k * off}))["average_jaccard"]
    for k in (0, 0.5, 1, 2, 8)
  ]
  assert (np.diff(scores, axis=0) <= 0).all()


def test_an_unknown_mode_is_refused(rng):
  with pytest.raises(ValueError, match="mode 'query' is not one of"):
    tapvid.evaluated_frames(np.zeros((1, 1, 3)), 4, "query")


def test_coordinates_keep_their_place_in_the_picture_and_time_its_length():
  moved = tapvid.convert_grid(np.asarray([[64.0, 32.0]]), np.asarray([128, 64]), np.asarray([256, 256]))  # fmt: skip
  np.testing.assert_array_equal(moved, [[128, 128]])
  with pytest.raises(ValueError, match="24 frames to 12; only height and width can change"):
    tapvid.convert_grid(np.zeros((1, 3)), np.asarray([24, 8, 8]), np.asarray([12, 8, 8]))


def test_only_gaps_longer_than_all_before_count():
  seen = np.asarray([[[1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1]]], bool)
  events, durations = redetection.reappearances(seen)
  assert events.tolist() == [[0, 2, 0], [0, 5, 0], [0, 14, 0]] and durations.tolist() == [1, 2, 3]


def test_a_point_hidden_from_the_start_reappears_too():
  events, durations = redetection.reappearances(np.asarray([[[0, 0, 1, 1]]], bool))
  assert events.tolist() == [[0, 2, 0]] and durations.tolist() == [2]


def test_a_method_faster_than_the_frames_answers_one_frame_late():
  clock = streaming.SimulatedClock()
  step = clock.taking(lambda frame: frame, lambda frame: 0.01)
  outputs = streaming.run(step, 10, 25.0, clock=clock, sleep=clock.sleep)
  assert outputs.input_frames.tolist() == list(range(10)) == outputs.values
  association = streaming.associate(outputs.input_frames, outputs.finish_times, 10, 25.0)
  assert association.tolist() == [-1, *range(9)]


def test_a_slow_method_skips_frames_and_gets_the_newest():
  clock = streaming.SimulatedClock()
  step = clock.taking(lambda frame: frame, lambda frame: 0.1)
  outputs = streaming.run(step, 12, 25.0, clock=clock, sleep=clock.sleep)
  assert outputs.input_frames.tolist() == [0, 2, 5, 7, 10, 11]
  np.testing.assert_allclose(outputs.finish_times, 0.1 * np.arange(1, 7))
  association = streaming.associate(outputs.input_frames, outputs.finish_times, 12, 25.0)
  assert association.tolist() == [-1, -1, -1, 0, 0, 2, 2, 2, 5, 5, 7, 7]


def test_the_real_clock_runs_a_short_clip():
  outputs = streaming.run(lambda frame: frame, 3, 200.0)
  assert outputs.values[-1] == 2 and (np.diff(outputs.finish_times) > 0).all()
  assert outputs.finish_times[-1] >= 2 / 200


def test_an_output_counts_from_the_moment_it_is_there():
  associate = lambda eta: streaming.associate(np.asarray([0]), np.asarray([0.1]), 4, 10.0, eta)  # noqa: E731
  assert associate(0).tolist() == [-1, 0, 0, 0] and associate(1).tolist() == [-1, -1, 0, 0]
  assert streaming.associate(np.zeros(0, int), np.zeros(0), 3, 1.0).tolist() == [-1] * 3


def test_outputs_out_of_order_are_refused():
  with pytest.raises(ValueError, match="decrease; give outputs in the order"):
    streaming.associate(np.asarray([0, 1]), np.asarray([0.2, 0.1]), 3, 10.0)


def test_answers_in_time_are_the_offline_ones(rng):
  arrays = tapvid.METRIC.example(rng)
  on_time = np.arange(arrays["gt_tracks"].shape[2])
  names = ("query_points", "pred_tracks", "pred_occluded")
  tracks, occluded = streaming.stream_tracks(*(arrays[name] for name in names), on_time)
  np.testing.assert_array_equal(tracks, arrays["pred_tracks"])
  np.testing.assert_array_equal(occluded, arrays["pred_occluded"])
  never = np.full_like(on_time, streaming.NOTHING)
  tracks, occluded = streaming.stream_tracks(*(arrays[name] for name in names), never)
  assert not occluded.any()
  np.testing.assert_array_equal(tracks[:, :, 3], arrays["query_points"][..., [2, 1]])
