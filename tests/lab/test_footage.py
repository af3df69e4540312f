"""Footage: sets that share nothing, clips that follow each other, targets at their moment."""

import numpy as np
import pytest

from perceiver_stream.lab import footage, sources
from perceiver_stream.lab.tasks import Task
from perceiver_stream.streams import synthetic

CONFIG = synthetic.Config(
  height=8, width=8, audio_rate_hz=0, modalities=sources.TRUTH, ticks_per_recording=11, max_ticks=40
)


@pytest.fixture(scope="module")
def watched():
  return footage.watch(CONFIG, 2, 30)


def test_what_was_watched_once_is_read_after(tmp_path, watched, monkeypatch):
  first = footage.kept(tmp_path, CONFIG, 2, 30)
  monkeypatch.setattr(footage, "watch", None)
  again = footage.kept(tmp_path, CONFIG, 2, 30)
  for name, value in watched.items():
    np.testing.assert_array_equal(first[name], value)
    np.testing.assert_array_equal(again[name], value)
  assert not list(tmp_path.glob(".part*"))


@pytest.mark.parametrize("ahead", [0, 4, 16])
@pytest.mark.parametrize("shows", ["pixels", "segmentation"])
def test_pictures_are_of_their_moment_and_cross_no_recording(watched, ahead, shows):
  task = Task(shows=shows, displacement=ahead)
  clips = footage.cut(watched, task, 4)
  assert clips.frames.shape == ((30 - ahead) // 4, 4, 2, 8, 8, 3)
  painted = task.paint({n: v for n, v in watched.items() if n != "is_first"})
  for number, tick, row in np.ndindex(clips.counts.shape):
    now = 4 * number + tick
    np.testing.assert_array_equal(clips.frames[number, tick, row], watched["pixels"][row, now])
    np.testing.assert_array_equal(clips.pictures[number, tick, row], painted[row, now + ahead])
    assert clips.counts[number, tick, row] == (now // 11 == (now + ahead) // 11)
    assert clips.is_first[number, tick, row] == (now % 11 == 0)


def test_a_stream_that_is_too_short_is_refused():
  with pytest.raises(ValueError, match="a row has 40 ticks of 41"):
    footage.watch(CONFIG, 1, 41)


@pytest.mark.parametrize("source", sorted(set(sources.SOURCES) - {"doom"}))
def test_sets_and_seeds_share_no_world(source):
  sets = [sources.sets_of(source, seed, 8) for seed in range(3)]
  seen = [footage.watch(config, 1, 1)["pixels"] for each in sets for config in each.values()]
  assert len({x.tobytes() for x in seen}) == 9


def test_videos_are_dealt_out_to_the_sets(tmp_path):
  for number in range(7):
    (tmp_path / f"{number}.mp4").touch()
  for seed in range(3):
    paths = [c.path.split(",") for c in sources.sets_of(str(tmp_path), seed, 16).values()]
    assert len({p for each in paths for p in each}) == sum(map(len, paths)) == 7
  rows = [sources.rows_of(c, 8) for c in sources.sets_of(str(tmp_path), 0, 16).values()]
  assert rows == [3, 2, 2] and sources.rows_of(sources.sets_of("world", 0, 16)["in_stream"], 8) == 8
  (tmp_path / "few").mkdir()
  with pytest.raises(ValueError, match="has 0 files; the three sets share none, so give 3 or more"):
    sources.sets_of(str(tmp_path / "few"), 0, 16)
  with pytest.raises(ValueError, match="'wrld' is neither one of"):
    sources.sets_of("wrld", 0, 16)


def test_games_walk_through_other_levels_in_each_set():
  maps = [config.maps for config in sources.sets_of("doom", 1, 16).values()]
  assert len({m for each in maps for m in each}) == sum(map(len, maps)) == 30
