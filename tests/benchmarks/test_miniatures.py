"""Data, batches and scores of the benchmarks that train miniatures; nothing is trained here."""

import dataclasses
import importlib
import itertools
import pathlib
import types

import numpy as np
import pytest

from perceiver_stream.evaluation.clips import Clip
from perceiver_stream.models.longvivit.variants import tiny
from perceiver_stream.streams import events

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"
SIDE, TICKS = 12, 6


@pytest.fixture
def load(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module


# --- long_video


def small(**changes):
  size = {"height": 4, "width": 4, "ticks_per_recording": 8, "event_ticks": 2, "gap": 1}
  return events.Config(**size | {"num_colours": 4, "noise": 0.0} | changes)


@pytest.mark.parametrize(("number", "size"), [(1, 4), (2, 6), (3, 12)])
def test_galleries_hold_every_second_caption_reversed_and_none_twice(load, number, size):
  found = load("long_video_parts").galleries(small(), number, size)
  assert found.clips.shape == (number * size, 8, 4, 4, 3)
  captions = found.captions.reshape(number, size, 3)
  np.testing.assert_array_equal(captions[:, 1::2], captions[:, ::2, ::-1])
  assert all(len(set(map(tuple, each.tolist()))) == size for each in captions)
  assert len({clip.tobytes() for clip in found.clips}) == number * size


def test_a_caption_names_the_colours_of_its_clip_in_their_order(load):
  parts = load("long_video_parts")
  found = parts.recordings(small(share=1.0), range(6))
  for clip, (first, _, second) in zip(found.clips, found.captions, strict=True):
    rgb = 255 * (0.1 + 0.8 * np.array(list(events.COLOURS.values())))
    shown = [
      int(np.abs(rgb - x).sum(axis=1).argmin()) for x in clip[:, 0, 0] if np.ptp(x) > 100
    ]  # the ground is grey
    assert list(dict.fromkeys(shown)) == [first - 1, second - 1]


def test_captions_without_order_are_those_of_the_reverse(load):
  captions = np.array([[3, 0, 5], [5, 0, 3], [2, 0, 1]])
  found = load("long_video_parts").without_order(captions)
  np.testing.assert_array_equal(found[0], found[1])
  assert sorted(found[2].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("frames", [1, 2, 4, 8])
def test_shuffled_clips_have_the_same_runs_of_frames_in_an_order_of_their_own(load, frames):
  clips = np.arange(5 * 8, dtype=np.uint8).reshape(5, 8, 1, 1, 1)
  found = load("long_video_parts").shuffled(clips, frames, seed=0)
  runs = found.reshape(5, -1, frames)
  assert np.all(np.diff(runs.astype(int)) == 1) and np.all(runs[..., 0] % frames == 0)
  np.testing.assert_array_equal(np.sort(found, axis=1), clips)
  orders = {tuple(row - row.min()) for row in runs[..., 0].astype(int)}
  assert len(orders) > 1 or frames == 8


def test_one_frame_is_repeated_and_differs_between_clips(load):
  clips = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9, 1, 1, 1)
  found = load("long_video_parts").one_frame(clips, seed=1)
  assert found.shape == clips.shape and np.all(found == found[:, :1])
  assert np.all((found[:, 0] >= clips[:, 0]) & (found[:, 0] <= clips[:, -1]))
  assert len(set((found[:, 0] - clips[:, 0]).ravel().tolist())) > 1


@pytest.mark.parametrize(("rows", "repeats"), [(4, False), (12, False), (20, True)])
def test_batches_are_pairs_of_reverses_with_their_own_clips(load, rows, repeats):
  parts = load("long_video_parts")
  captions = np.array([*itertools.permutations(range(1, 5), 2)] * 3)
  captions = np.insert(captions, 1, 0, axis=1)
  captions = np.concatenate([captions, [[1, 0, 9]]])  # its reverse is in no clip
  batches = parts.Batches(parts.Data(np.arange(len(captions)), captions), rows, seed=0)
  for _ in range(5):
    found = batches.draw()
    np.testing.assert_array_equal(found.captions, captions[found.clips])
    np.testing.assert_array_equal(found.captions[1::2], found.captions[::2, ::-1])
    assert (len(set(map(tuple, found.captions.tolist()))) < rows) == repeats
    assert 9 not in found.captions


def test_chosen_rows_come_with_those_that_they_start_from(load):
  long_video = load("long_video")
  rows = long_video.rows_of(tiny(), 7, 4)
  assert list(long_video.chosen(rows, "joint, (75|90) % masked")) == [
    "joint, 75 % masked",
    "joint, 90 % masked",
  ]
  adapters = long_video.TUNED.format("joint", "adapters")
  assert set(long_video.chosen(rows, adapters)) == {adapters, rows[adapters].start}
  with pytest.raises(
    ValueError, match="--only='joint' matches no row; there are joint, 0 % masked"
  ):
    long_video.chosen(rows, "joint")


def test_rows_have_equal_updates_and_coarse_tubelets_are_as_many_as_kept_ones(load):
  long_video = load("long_video")
  rows = long_video.rows_of(tiny(), 7, 4)
  assert {(row.trainer.steps, row.trainer.rows) for row in rows.values()} == {(7, 4)}
  kept = {name: row.trainer.config.num_kept(True) for name, row in rows.items()}
  coarse = [number for name, number in kept.items() if "coarse" in name]
  assert coarse == [kept[long_video.MASKED]] * 2 == [32, 32]
  assert kept["joint, 0 % masked"] == 128 and kept["factorised, 50 % masked"] == 64
  names = list(rows)
  for name, row in rows.items():
    if row.start:
      start = rows[row.start]
      assert names.index(row.start) < names.index(name)
      assert start.trainer.config.attention == row.trainer.config.attention
      assert rows[start.scored].trainer.config.attention == row.trainer.config.attention
  assert sum(row.trainer.kind == "temporal" for row in rows.values()) == 1


def test_a_row_of_the_table_has_the_spread_over_its_seeds(load):
  long_video = load("long_video")
  found = {
    "a": long_video.Found([50.0, 60.0, 70.0], [1.0, 2.0, 3.0], 128, 1000, 8.0),
    "b": long_video.Found([1.0], [3.0], 32, 10, 2.0),
    "c": long_video.Found([5.0], []),
  }
  rows = long_video.table(found, 64, "").rows
  assert rows[0] == ["a", 128, "60.0 (50.0 to 70.0)", 1000, 8.0, 1.0, 2.0]
  assert rows[1] == ["b", 32, "1.0", 10, 2.0, 0.25, 3.0]
  assert rows[2:] == [["c", None, "5.0", *[None] * 4], ["chance", None, "1.6", *[None] * 4]]


def test_each_kind_of_data_has_its_clips_and_galleries(load):
  long_video, config = load("long_video"), dataclasses.replace(tiny(), num_frames=16)
  sets = long_video.sets_of(config, 6, 1, 4)
  assert sets.long.clips.shape[:2] == (6, 16) and sets.short.clips.shape[:2] == (6, 4)
  learned, test = sets.of("without order", 0)
  np.testing.assert_array_equal(learned.captions, sets.long.captions)
  np.testing.assert_array_equal(test.captions[::2], test.captions[1::2])
  assert [x.clips.shape[1] for x in sets.of("short", 0)] == [4, 16]
  assert all(np.all(x.clips == x.clips[:, :1]) for x in sets.of("one frame", 0))


# --- point_tokens


@pytest.fixture
def clip():
  """Returns a clip whose colours are column, row and tick."""
  t, y, x = np.mgrid[:TICKS, :SIDE, :SIDE]
  rng = np.random.default_rng(0)
  tracks = rng.integers(SIDE, size=(5, TICKS, 2)) + 0.5
  occluded = rng.random((5, TICKS)) < 0.3
  occluded[2], occluded[3, :4] = True, [True, True, True, False]
  return Clip(np.stack([x, y, t], axis=-1).astype(np.uint8), tracks, occluded)


def test_a_changed_clip_has_its_points_on_the_same_pixels(load, clip):
  point_tokens, kinds = load("point_tokens"), set()
  for seed in range(60):
    found = point_tokens.changed(clip, np.random.default_rng(seed))
    x, y = np.moveaxis(np.floor(found.tracks).astype(int), -1, 0)
    colours = found.frames[np.arange(TICKS), y, x]
    before = colours[..., 2]
    np.testing.assert_array_equal(before, before[:1].repeat(5, axis=0))
    point = np.arange(5)[:, None]
    np.testing.assert_array_equal(colours[..., :2] + 0.5, clip.tracks[point, before])
    np.testing.assert_array_equal(found.occluded, clip.occluded[point, before])
    kinds.add(found.frames.tobytes())
  assert len(kinds) == 16


def test_queries_of_a_row_start_where_points_are_first_visible(load, clip):
  point_tokens = load("point_tokens")
  frames, commands, targets, visible = point_tokens.row_of(clip, table=256)
  slots = point_tokens.SLOTS
  assert commands.start.shape == visible.shape == (TICKS, slots)
  assert not commands.start[:, 2].any() and not commands.stop.any()
  for point in (0, 1, 3, 4):
    (tick,) = np.flatnonzero(commands.start[:, point])
    assert tick == np.flatnonzero(~clip.occluded[point])[0]
    np.testing.assert_allclose(commands.position[tick, point], clip.tracks[point, tick] / SIDE)
    np.testing.assert_allclose(targets[tick, point], clip.tracks[point, tick, ::-1] * 256 / SIDE)
  np.testing.assert_array_equal(visible[:, :5], ~clip.occluded.T)
  assert not any(x[:, 5:].any() for x in (commands.start, commands.position, targets, visible))
  np.testing.assert_allclose(255 * frames, clip.frames, atol=1e-4)


def test_batches_stack_rows_and_rates_warm_up_and_fall(load, clip):
  point_tokens = load("point_tokens")
  batch = next(point_tokens.batches([clip], 64, seed=0))
  lead = (TICKS, point_tokens.ROWS)
  assert batch[0].shape == (*lead, SIDE, SIDE, 3)
  assert batch[1].start.shape == (*lead, point_tokens.SLOTS)
  assert batch[2].max() <= 64
  rates = [float(point_tokens.schedule(x)) for x in (0.0, 0.025, 0.05, 0.5, 1.0)]
  np.testing.assert_allclose(rates, [0.01, 0.51, 0.994, 0.55, 0.1], atol=0.01)


def test_covered_points_are_occluded_and_reappear(load):
  point_tokens = load("point_tokens")
  (clip,), side = point_tokens.hidden_clips(1), point_tokens.SIDE
  ticks = point_tokens.HIDDEN + 2 * point_tokens.VISIBLE
  (plain,) = point_tokens.held_out("easy", 1, ticks, side, 64)
  covered = np.zeros(clip.frames.shape[:3], bool)
  some = slice(point_tokens.VISIBLE, point_tokens.VISIBLE + point_tokens.HIDDEN)
  covered[some, side // 4 : -side // 4, side // 4 : -side // 4] = True
  np.testing.assert_array_equal(clip.frames[~covered], plain.frames[~covered])
  assert (clip.frames[covered] != plain.frames[covered]).mean() > 0.9
  at = np.clip(np.floor(clip.tracks).astype(int), 0, side - 1)
  inside = covered[np.arange(ticks), at[..., 1], at[..., 0]]
  np.testing.assert_array_equal(clip.occluded, plain.occluded | inside)
  known = {tuple(points[0]): points for points in clip.tracks}

  def exact(frames, queries):
    tracks = np.stack([known[tuple(q)] for q in queries[:, :0:-1]])
    return tracks, np.zeros(tracks.shape[:2], bool)

  wrong = lambda frames, queries: (exact(frames, queries)[0] + 30, exact(frames, queries)[1])  # noqa: E731
  assert point_tokens.found_again(exact, [clip]) > 60 > 1 > point_tokens.found_again(wrong, [clip])


@pytest.mark.parametrize("late", [0.5, 1.0, 3.0])
def test_drift_is_the_ratio_of_late_errors_to_those_around_tick_64(load, late):
  point_tokens = load("point_tokens")
  points = np.random.default_rng(0).uniform(0, 64, (160, 3, 2))
  visible = np.array([True, False, True])
  known = [
    {"pixels": np.full((2, 2, 3), t, np.uint8), "points": points[t], "points_visible": visible}
    for t in range(160)
  ]

  def start(queries):
    assert len(queries) == 2 and np.all(queries[:, 0] == 0)

    def follow(frames):
      ticks = frames[:, 0, 0, 0]
      away = np.where(ticks < 100, 2.0, 2.0 * late)[:, None] * [0.6, 0.8]
      return types.SimpleNamespace(tracks=points[ticks][:, visible].swapaxes(0, 1) + away)

    return follow

  np.testing.assert_allclose(point_tokens.drift(start, known), late)


# --- attention_types


def test_one_disc_pulses_with_the_sound(load):
  attention_types = load("attention_types")
  data = attention_types.clips(20, seed=0)
  half, number = attention_types.SIDE // 2, np.arange(20)
  shape = (20, attention_types.TICKS, 2, half, 2, half)
  light = data.pixels.reshape(shape).mean(axis=(3, 5)).reshape(20, attention_types.TICKS, 4)
  is_on = light > light.mean(axis=1, keepdims=True)
  loud = np.square(data.sound).mean(axis=2)
  is_loud = loud > loud.mean(axis=1, keepdims=True)
  same = (is_on == is_loud[..., None]).all(axis=1)
  assert same[number, data.labels].all() and np.all(same.sum(axis=1) == 1)


def test_tokens_are_the_parts_of_the_clip(load):
  attention_types = load("attention_types")
  data = attention_types.clips(3, seed=1)
  pixels, sound = attention_types.tokens_of(data)
  assert (pixels.shape[:2], sound.shape[:2]) == ((3, 8), (3, 2))
  piece = data.pixels[1, 4:8, 8:, :8]  # the second four ticks, below left
  np.testing.assert_array_equal(pixels[1, 4 + 2], piece.reshape(-1))
  louder = attention_types.loudness(2 * data.sound) - attention_types.loudness(data.sound)
  assert np.all(louder >= 0) and louder.max() <= np.log(4) / 5 + 1e-6


# --- object_masks


@pytest.mark.parametrize("axes", [(), (2,), (3,), (2, 3)])
def test_mirrored_flow_still_leads_to_the_same_pixels(load, axes):
  object_masks = load("object_masks")
  rng = np.random.default_rng(0)
  flow = rng.integers(-2, 3, (1, 1, 5, 7, 2)).astype(np.float32)
  found = object_masks.mirrored("flow", flow, axes)
  np.testing.assert_array_equal(object_masks.mirrored("flow", found, axes), flow)
  row, column = np.mgrid[:5, :7]
  ends = np.stack([column, row], axis=-1) + flow[0, 0]
  mirror = lambda x, axis, size: size - 1 - x if axis in axes else x  # noqa: E731
  expected = np.stack([mirror(ends[..., 0], 3, 7), mirror(ends[..., 1], 2, 5)], axis=-1)
  expected = np.flip(expected, [axis - 2 for axis in axes])
  np.testing.assert_array_equal(np.stack([column, row], axis=-1) + found[0, 0], expected)
  pixels = rng.integers(0, 256, (1, 1, 5, 7, 3), np.uint8)
  np.testing.assert_array_equal(
    object_masks.mirrored("pixels", pixels, axes), np.flip(pixels, axes)
  )


def test_a_segment_has_the_label_that_it_covers_most_in_the_first_frame(load):
  object_masks = load("object_masks")
  first = np.array([[0, 0, 2, 2, 1]])
  segments = np.array([[[5, 5, 5, 3, 3]], [[3, 3, 5, 4, 0]]])
  found = object_masks.labelled(segments, first)
  np.testing.assert_array_equal(found, [[[0, 0, 0, 1, 1]], [[1, 1, 0, 0, 0]]])
  np.testing.assert_array_equal(object_masks.labelled(first[None], first), first[None])
  np.testing.assert_array_equal(object_masks.first_mask(segments, first), [first, first])
