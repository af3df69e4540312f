"""The maze: corridors that hang together, walls that are where depth says, a walk that goes on."""

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import maze


def watch(ticks=120, **fields):
  config = maze.Config(max_ticks=ticks, **fields)
  seen = list(streams.open_rows(config)[0])
  return {name: np.stack([tick[name] for tick in seen]) for name in seen[0]}


@pytest.mark.parametrize("cells", [2, 5, 9])
def test_all_corridors_hang_together(cells):
  walls = maze.dig(np.random.default_rng(cells), cells)
  assert walls[0].all() and walls[-1].all() and walls[:, 0].all() and walls[:, -1].all()
  reached, rest = {(1, 1)}, [(1, 1)]
  while rest:
    y, x = rest.pop()
    for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
      if not walls[place] and place not in reached:
        reached.add(place)
        rest.append(place)
  assert not walls[1::2, 1::2].any() and {tuple(p) for p in np.argwhere(~walls)} >= reached
  assert len(reached) >= 2 * cells**2 - 1


def test_the_walk_goes_on_and_never_through_a_wall():
  walk = maze.Walk(maze.Config(cells=4), 0, 0)
  seen = set()
  for _ in range(1500):
    walk.skip(1)
    column, line = np.floor(walk._place).astype(int)
    assert not walk._walls[line, column]
    seen.add((int(line), int(column)))
  assert len(seen) > 20


def test_depth_is_that_of_the_walls_floor_and_ceiling():
  seen = watch(ticks=30, height=33, width=33)
  depth, label = seen["depth"], seen["segmentation"]
  down = np.abs((np.arange(33) + 0.5 - 16.5) / 16.5)
  plane = np.broadcast_to((0.5 / np.maximum(down, 1e-9))[None, :, None], depth.shape)
  np.testing.assert_allclose(depth[label < 2], np.minimum(plane, 16)[label < 2], rtol=1e-5)
  wall = np.where(label == 2, depth, np.nan)
  assert np.all(np.nanmax(wall, 1) - np.nanmin(wall, 1) < 1e-5), "a wall stands upright"
  assert np.all(depth[label == 2] <= plane[label == 2] + 1e-5), "it hides what is behind it"
  assert depth.min() < 1 and depth.max() > 2


def test_walls_come_nearer_by_what_was_walked():
  walk = maze.Walk(maze.Config(height=9, width=9, cells=5, speed=1.0), 0, 0)
  before = walk.read()
  after = walk.read()
  np.testing.assert_allclose(before["depth"][4, 4] - after["depth"][4, 4], 1 / 25, atol=2e-3)
  np.testing.assert_allclose(np.hypot(*(after["camera"] - before["camera"])[:2]), 1 / 25, rtol=1e-4)


def test_nights_are_dark():
  seen = watch(ticks=31, ticks_per_night=60)
  day, night = seen["pixels"][0].mean(), seen["pixels"][30].mean()
  assert night < 0.5 * day


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"audio_rate_hz": 8000}, "there is no sound"),
    ({"cells": 1}, "cells=1; use 2 to 100"),
    ({"speed": 0.0}, r"speed=0.0; use 0\.1 to 10"),
    ({"ticks_per_night": -1}, "ticks_per_night=-1; use 0 to"),
  ],
)
def test_errors_say_what_is_wrong(fields, said):
  with pytest.raises(ValueError, match=said):
    maze.Config(**fields)
