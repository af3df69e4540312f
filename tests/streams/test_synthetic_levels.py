"""The levels are as hard as the benchmark whose table they follow (128 x 128, clips of 24 ticks)."""

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import synthetic

# mean, 95th and 99th percentile of flow (px), visible share, reappearances, displacement 0 -> 23.
TABLE = {
  "easy": (0.78, 1.45, 2.1, 0.94, 5.7, 10),
  "medium": (2.15, 3.98, 5.8, 0.77, 17.8, 30),
  "hard": (3.62, 7.01, 11.4, 0.69, 34.8, 49),
}
CLIPS, SEEDS = 4, 3


@pytest.fixture(scope="module", params=list(TABLE))
def level(request):
  return request.param


@pytest.fixture(scope="module")
def clips(level):
  found = []
  for seed in range(SEEDS):
    config = synthetic.Config(
      height=128,
      width=128,
      level=level,
      seed=seed,
      max_ticks=24 * CLIPS,
      ticks_per_recording=24,
      ticks_per_point=0,
      modalities=("flow", "points", "points_visible"),
    )
    ticks = list(streams.open_rows(config)[0])
    found += [ticks[24 * n : 24 * n + 24] for n in range(CLIPS)]
  return found


def test_flow(clips, level):
  flow = np.concatenate([tick["flow"][::3, ::3].reshape(-1, 2) for c in clips for tick in c[:-1]])
  speed = np.hypot(flow[:, 0], flow[:, 1])
  numbers = (speed.mean(), *np.percentile(speed, (95, 99)))
  np.testing.assert_allclose(numbers, TABLE[level][:3], rtol=0.2)


def test_visible_share(clips, level):
  visible = np.mean([tick["points_visible"] for clip in clips for tick in clip])
  assert visible == pytest.approx(TABLE[level][3], abs=0.07)


def test_reappearances(clips, level):
  count = 0
  for clip in clips:
    seen = np.stack([tick["points_visible"] for tick in clip], 1)
    known = np.maximum.accumulate(seen, 1)
    count += (known[:, :-1] & ~seen[:, :-1] & seen[:, 1:]).sum()
  assert count / len(clips) == pytest.approx(TABLE[level][4], rel=0.4)


def test_displacement(clips, level):
  way = np.concatenate([clip[-1]["points"] - clip[0]["points"] for clip in clips])
  assert np.hypot(way[:, 0], way[:, 1]).mean() == pytest.approx(TABLE[level][5], rel=0.2)


@pytest.mark.parametrize(
  ("level", "things", "noise"), [("easy", (2, 3), 0), ("medium", (3, 5), 2), ("hard", (4, 7), 4)]
)
def test_how_much_there_is(level, things, noise):
  preset = synthetic.LEVELS[level]
  assert (preset.things, preset.noise) == (things, noise)
  config = synthetic.Config(height=8, width=8, level=level)
  worlds = [synthetic.World(config, row) for row in range(30)]
  scenes = [world.scene(synthetic.Moment(config, 0)) for world in worlds]
  assert {len(scene.radius) for scene in scenes} == set(range(things[0], things[1] + 1))
  assert streams.specs(config)["segmentation"].maximum == things[1]
