"""The clock announces the image that matters, and nothing else does."""

import numpy as np
import pytest

from perceiver_stream.streams import countdown
from perceiver_stream.streams.countdown import CELLS, Config, Countdown


@pytest.mark.parametrize("random_zeros", [True, False])
@pytest.mark.parametrize("ticks, zeros", [(16, 3), (9, 2), (30, 1), (8, 3)])
def test_the_label_is_the_class_at_the_last_zero_of_the_clock(random_zeros, ticks, zeros):
  config = Config(ticks_per_recording=ticks, random_zeros=random_zeros, most_zeros=zeros, noise=0.0)
  for recording in range(20):
    one = Countdown(config, 0, recording)
    read = [one.read() for _ in range(ticks)]
    at_zero = [t for t, tick in enumerate(read) if tick["clock"].sum() == 0]
    assert at_zero == one.zeros.tolist() and 1 <= len(at_zero) <= zeros
    assert min(np.diff([0, *at_zero])) >= 2, "announced before"
    assert {int(tick["label"]) for tick in read} == {int(one.shown[at_zero[-1]])}
    for t, tick in enumerate(read):
      left = [z - t for z in at_zero if z >= t]
      assert tick["clock"].sum() == min([*left, CELLS])
      same = [u for u in range(ticks) if one.shown[u] == one.shown[t]]
      assert all(np.array_equal(read[u]["pixels"], tick["pixels"]) for u in same)


def test_zeros_are_the_same_in_all_recordings_of_the_control_only():
  of = lambda **k: {tuple(Countdown(Config(**k), 0, r).zeros) for r in range(30)}  # noqa: E731
  assert of(random_zeros=False) == {(4, 8, 12)}
  assert len(of()) > 10 and {len(zeros) for zeros in of()} == {1, 2, 3}


def test_classes_look_different_and_all_occur():
  grids = countdown.patterns(6)
  assert len(np.unique(grids.reshape(6, -1), axis=0)) == 6 and set(np.unique(grids)) == {-1.0, 1.0}
  labels = [int(Countdown(Config(), 0, r).look()["label"]) for r in range(60)]
  assert set(labels) == {0, 1, 2, 3}


@pytest.mark.parametrize(
  "fields, text",
  [
    ({"num_classes": 1}, "num_classes=1; use at least 2"),
    ({"ticks_per_recording": 7}, "ticks_per_recording=7; use at least 8"),
    ({"audio_rate_hz": 8000}, "it is silent; set it to 0"),
  ],
)
def test_what_does_not_fit_is_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    Config(**fields)
