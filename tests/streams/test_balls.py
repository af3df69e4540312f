"""Bouncing balls: they stay in their box, keep their energy, and change their colours."""

import itertools

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import balls


def watch(ticks=60, row=0, **fields):
  """Returns pictures and labels, `[T, ...]`."""
  config = balls.Config(max_ticks=ticks, **fields)
  seen = list(streams.open_rows(config, row + 1)[row])
  return np.stack([t["pixels"] for t in seen]), np.stack([t["segmentation"] for t in seen])


def test_balls_stay_in_their_box_and_keep_their_energy():
  box = balls.Box(balls.Config(num_balls=3, speed=1.0), 0, 0)
  before = np.sum(np.square(box._velocity))
  for _ in range(2000):
    box.read()
    assert np.all(box._place >= 0.12 - 1e-9) and np.all(box._place <= 0.88 + 1e-9)
  np.testing.assert_allclose(np.sum(np.square(box._velocity)), before, rtol=1e-9)


def test_balls_that_meet_swap_their_ways():
  box = balls.Box(balls.Config(num_balls=2, radius=0.1), 0, 0)
  box._place = np.array([[0.3, 0.5], [0.49, 0.5]])
  box._velocity = np.array([[1.0, 0.2], [-0.5, 0.2]])
  box.skip(1)
  np.testing.assert_allclose(box._velocity, [[-0.5, 0.2], [1.0, 0.2]], atol=1e-9)


def test_labels_are_where_the_colours_are():
  pixels, label = watch(num_balls=3)
  assert set(np.unique(label)) == {0, 1, 2, 3}
  assert np.all(pixels[label == 0].astype(int).min(-1) <= 200)
  inner = pixels[label > 0].astype(int)
  assert np.mean(inner.max(-1) - inner.min(-1) > 80) > 0.9
  area = np.mean(label[0] > 0)
  np.testing.assert_allclose(area, 3 * np.pi * 0.12**2, rtol=0.2)


def test_colours_drift_if_they_should():
  still, _ = watch(ticks=2, speed=0.0)
  np.testing.assert_array_equal(still[0], still[1])
  drifting, label = watch(ticks=31, speed=0.0, ticks_per_drift=30)
  np.testing.assert_array_equal(drifting[0], drifting[30])
  mean = [drifting[t][label[t] == 1].mean(0) for t in (0, 10, 20)]
  assert np.abs(mean[0] - mean[1]).max() > 60 and np.abs(mean[1] - mean[2]).max() > 60


def test_rows_and_seeds_are_other_boxes():
  pictures = [watch(2, row, seed=seed)[0].tobytes() for row in (0, 1) for seed in (0, 1)]
  assert len(set(pictures)) == 4


def test_motion_says_where_everything_was():
  config = balls.Config(num_balls=2, motion=True, max_ticks=20)
  ticks = list(streams.open_rows(config, 1)[0])
  assert streams.specs(config)["flow_backward"].shape == (32, 32, 2)
  assert not ticks[0]["flow_backward"].any(), "nothing was there before the recording"
  centre = lambda tick, ball: np.argwhere(tick["segmentation"] == ball).mean(0)[::-1]  # noqa: E731
  for before, tick in itertools.pairwise(ticks):
    flow, label = tick["flow_backward"], tick["segmentation"]
    assert not flow[label == 0].any() and flow[label > 0].any()
    for ball in np.unique(label[label > 0]):
      moved = centre(before, ball) - centre(tick, ball)
      assert np.abs(flow[label == ball] - moved).max() < 0.75  # a centre of pixels is not exact
  assert "flow_backward" not in streams.specs(balls.Config())


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"audio_rate_hz": 8000}, "there is no sound; use audio_rate_hz=0"),
    ({"num_balls": 9}, "9 of radius 0.12 have no room to move"),
    ({"radius": 0.01}, "1 of radius 0.01|3 of radius 0.01"),
    ({"num_balls": 0}, "num_balls=0; use at least 1"),
    ({"speed": 9.0}, "speed=9.0; use 0 to 5"),
  ],
)
def test_errors_say_what_is_wrong(fields, said):
  with pytest.raises(ValueError, match=said):
    balls.Config(**fields)
