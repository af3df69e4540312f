"""The synthetic world tells the truth about itself."""

import hashlib
import multiprocessing

import numpy as np
import pytest
from stream_checks import assert_restores, assert_same
from stream_checks import synthetic_ticks as ticks

from perceiver_stream import streams
from perceiver_stream.streams import synthetic

ALL = (*synthetic.MODALITIES, *synthetic.MORE)


def sight(num=12, **fields):
  """Ticks with all that can be seen, without noise."""
  names = tuple(name for name in ALL if name != "audio")
  return ticks(num, **{"modalities": names, "noise": 0.0, "lighting": 0.0} | fields)


def at(picture, place):
  """Returns a picture's values at raster places (x, y) `[..., 2]`, linearly; ends are repeated."""
  limit = np.array(picture.shape[1::-1]) - 1
  place = (place - 0.5).clip(0, limit - 1e-4)
  left, top = np.moveaxis(np.floor(place).astype(int), -1, 0)
  x, y = np.moveaxis(place - np.floor(place), -1, 0)[..., None]
  p = picture.astype(float)
  upper = p[top, left] * (1 - x) + p[top, left + 1] * x
  lower = p[top + 1, left] * (1 - x) + p[top + 1, left + 1] * x
  return upper * (1 - y) + lower * y


def centres(height, width):
  return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + 0.5


def label_around(label, place, reach):
  """Returns the layer at raster places, or -1 where another is within `reach` pixels, or outside."""
  height, width = label.shape
  column, row = np.moveaxis(np.floor(place).astype(int), -1, 0)
  inside = (column >= reach) & (column < width - reach) & (row >= reach) & (row < height - reach)
  row, column = row.clip(reach, height - 1 - reach), column.clip(reach, width - 1 - reach)
  steps = range(-reach, reach + 1)
  same = np.all(
    [label[row + dy, column + dx] == label[row, column] for dy in steps for dx in steps], 0
  )
  return np.where(inside & same, label[row, column], -1)


def co_visible(now, other, flow, reach=2):
  """Returns where a surface is, and after its flow, well within what is seen of it."""
  grid = centres(*now["segmentation"].shape)
  here = label_around(now["segmentation"], grid, reach)
  there = label_around(other["segmentation"], grid + flow, reach)
  return (here >= 0) & (here == there)


@pytest.mark.parametrize("level", list(synthetic.LEVELS))
@pytest.mark.parametrize("way", ["flow", "flow_backward"])
def test_pictures_moved_by_flow_are_the_next_and_the_last_pictures(level, way):
  seq = sight(8, level=level, height=64, speed=2.0)  # well beyond the rounding of colours
  pairs = list(zip(seq, seq[1:], strict=False))
  errors, stills = [], []
  for now, other in pairs if way == "flow" else [(b, a) for a, b in pairs]:
    same = co_visible(now, other, now[way])
    assert same.mean() > 0.3
    moved = at(other["pixels"], centres(64, 64) + now[way])
    errors.append(np.abs(moved - now["pixels"])[same].mean())
    stills.append(np.abs(other["pixels"].astype(float) - now["pixels"])[same].mean())
  assert max(errors) < 4 and np.mean(errors) < 0.5 * np.mean(stills)


def test_flows_there_and_back_are_inverse():
  seq = sight(8, level="hard", height=64)
  for now, after in zip(seq, seq[1:], strict=False):
    same = co_visible(now, after, now["flow"])
    back = at(after["flow_backward"], centres(64, 64) + now["flow"])
    assert np.abs(back + now["flow"])[same].max() < 1e-4, "flow is linear on each surface"


def test_points_move_by_flow_and_are_seen_where_their_surface_is():
  counts = {True: 0, False: 0}
  seq = sight(30, level="hard", height=64, num_points=128)
  own = layers_of_points(seq)
  for now, after in zip(seq, seq[1:], strict=False):
    place, shown, names = now["points"], now["points_visible"], now["points_id"]
    layer = label_around(now["segmentation"], place, 1)
    moved = place + at(now["flow"], place)
    kept = shown & (layer >= 0) & (names == after["points_id"])
    np.testing.assert_allclose(moved[kept], after["points"][kept], atol=1e-3)
    assert not shown[((place < 0) | (place >= 64)).any(1)].any()
    for n in np.flatnonzero((layer >= 0) & np.isin(names, list(own))):
      assert shown[n] == (layer[n] == own[int(names[n])])
      counts[bool(shown[n])] += 1
  assert counts[True] > 1000 and counts[False] > 50


def layers_of_points(seq):
  """Returns the layer each point is on, by its id: the one seen wherever the point is seen."""
  found = {}
  for tick in seq:
    layer = label_around(tick["segmentation"], tick["points"], 1)
    for n in np.flatnonzero(tick["points_visible"] & (layer >= 0)):
      found.setdefault(int(tick["points_id"][n]), set()).add(int(layer[n]))
  assert all(len(layers) == 1 for layers in found.values())
  return {key: layers.pop() for key, layers in found.items()}


def test_the_nearer_hides_the_farther():
  for tick in sight(6, level="hard"):
    depths = []
    for label in np.unique(tick["segmentation"]):
      mask = tick["segmentation"] == label
      assert np.ptp(tick["depth"][mask]) == 0
      depths.append(tick["depth"][mask][0])
    assert depths == sorted(depths, reverse=True), "ids grow towards the eye"


def test_a_new_point_has_a_new_id_and_is_seen_soon():
  seq = sight(100, ticks_per_point=20, num_points=16)
  for n in range(16):
    ids = np.array([tick["points_id"][n] for tick in seq])
    seen = np.array([tick["points_visible"][n] for tick in seq])
    starts = np.flatnonzero(np.diff(ids)) + 1
    assert len(starts) in (4, 5) and len(set(ids)) == len(starts) + 1
    assert all(seen[a : a + 20].any() for a in starts if a + 20 <= 100)
  born = [int((a["points_id"] != b["points_id"]).sum()) for a, b in zip(seq, seq[1:], strict=False)]
  assert max(born) <= 2, "not all at once"


def test_camera_says_how_the_ground_moves():
  seq = sight(12, num_things=0, level="hard")
  for last, now in zip(seq, seq[1:], strict=False):
    np.testing.assert_allclose(now["camera"][4:], now["camera"][:4] - last["camera"][:4], atol=1e-5)
    x, y, roll, zoom = now["camera"][:4]
    turn = np.exp(zoom) * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    spot = np.array([9.0, 5.0])
    place = turn @ (spot - (x, y)) + (32, 24)
    x, y, roll, zoom = last["camera"][:4]
    turn = np.exp(zoom) * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    before = turn @ (spot - (x, y)) + (32, 24)
    np.testing.assert_allclose(before - place, at(now["flow_backward"], place), atol=1e-3)


def test_everything_moves_unless_the_world_stands_still():
  assert len({tick["pixels"].tobytes() for tick in ticks(30)}) == 30
  for tick in sight(3, speed=0.0):
    np.testing.assert_allclose(tick["flow"], 0, atol=1e-5)


def test_a_camera_that_stands_still_sees_a_still_ground():
  for tick in sight(3, camera=0.0):
    np.testing.assert_allclose(tick["flow"][tick["segmentation"] == 0], 0, atol=1e-5)
    assert not tick["camera"].any()
  assert any(np.abs(tick["flow"]).max() > 0.1 for tick in sight(3, camera=0.0))


def test_light_drifts_and_the_sensor_is_noisy():
  plain, lit = sight(40), sight(40, lighting=0.3)
  gain = [a["pixels"].mean() / b["pixels"].mean() for a, b in zip(lit, plain, strict=True)]
  assert np.ptp(gain) > 0.1 and np.abs(np.diff(gain)).max() < 0.05, "slowly"
  noisy = sight(2, noise=6.0)
  rest = noisy[0]["pixels"].astype(float) - plain[0]["pixels"]
  assert 5 < rest.std() < 6.5 and abs(rest.mean()) < 0.3
  assert (noisy[0]["pixels"] - plain[0]["pixels"] != noisy[1]["pixels"] - plain[1]["pixels"]).any()


def test_cuts_bring_another_world_without_is_first():
  seq = sight(12, ticks_per_scene=4)
  assert [bool(tick["is_first"]) for tick in seq] == [True] + [False] * 11
  change = [
    np.abs(a["pixels"].astype(float) - b["pixels"]).mean()
    for a, b in zip(seq, seq[1:], strict=False)
  ]
  assert min(change[3::4]) > 3 * np.median(change)
  assert [bool(tick["flow_valid"]) for tick in seq] == [True, True, True, False] * 3
  assert [bool(tick["flow_backward_valid"]) for tick in seq] == [False, True, True, True] * 3
  assert not np.any(seq[3]["points_id"] == seq[4]["points_id"])


def test_every_recording_is_another_world():
  seq = ticks(9, ticks_per_recording=3)
  assert [bool(tick["is_first"]) for tick in seq] == [True, False, False] * 3
  assert [bool(tick["flow_valid"]) for tick in seq] == [True, True, False] * 3
  assert len({tick["pixels"].tobytes() for tick in seq}) == 9


def test_same_seed_same_world_other_seed_or_row_another():
  one = ticks(3)
  for a, b in zip(one, ticks(3), strict=True):
    assert_same(a, b)
  for other in (ticks(3, seed=4), ticks(3, row=1)):
    assert (one[0]["pixels"] != other[0]["pixels"]).mean() > 0.5


def test_seeking_is_playing():
  config = synthetic.Config(
    height=16,
    width=24,
    level="hard",
    max_ticks=40,
    ticks_per_recording=23,
    ticks_per_scene=9,
    ticks_per_point=7,
    modalities=ALL,
  )
  assert_restores(streams.open_rows(config)[0], places=[0, 5, 9, 10, 22, 23, 24, 39, 40], ahead=4)


def test_far_ahead_is_as_quick_and_as_good():
  config = synthetic.Config(height=24, width=24, modalities=ALL)
  iterator = iter(streams.open_rows(config)[0])
  iterator.set_state({"tick": 10**9})
  tick = next(iterator)
  assert tick["timestamp_s"] == 4e7
  assert tick["pixels"].std() > 5 and np.abs(tick["audio"]).max() <= 1
  assert 0.1 < tick["points_visible"].mean() <= 1


def _digest(num):
  found = hashlib.sha256()
  for tick in ticks(num, modalities=ALL, level="hard"):
    for name in sorted(tick):
      found.update(tick[name].tobytes())
  return found.hexdigest()


def test_other_processes_see_the_same_world():
  with multiprocessing.get_context("spawn").Pool(1) as pool:
    assert pool.apply(_digest, (3,)) == _digest(3)


def test_only_what_is_asked_for():
  config = synthetic.Config(modalities=("depth", "pixels"), audio_rate_hz=0, max_ticks=1)
  assert list(streams.specs(config)) == ["depth", "pixels"]
  assert "audio" not in next(iter(streams.open_rows(config)[0]))


@pytest.mark.parametrize(
  ("fields", "text"),
  [
    ({"height": 4}, "height=4; use 8 to 4096"),
    ({"width": 4097}, "width=4097; use 8 to 4096"),
    ({"level": "brutal"}, "level='brutal'; use one of easy, medium, hard"),
    ({"num_things": -2}, "num_things=-2; use 0 to 100, or -1 for what the level has"),
    ({"speed": -1.0}, "speed=-1.0; use 0.0 to 20.0"),
    ({"camera": 5.0}, "camera=5.0; use 0.0 to 4.0"),
    ({"noise": -2.0}, "noise=-2.0; use 0.0 to 255.0, or -1 for what the level has"),
    ({"lighting": 2.0}, "lighting=2.0; use 0.0 to 1.0, or -1"),
    ({"num_points": 0}, "num_points=0; use 1 to 4096"),
    ({"seed": -1}, "seed=-1; use 0 to"),
    ({"ticks_per_recording": -1}, "ticks_per_recording=-1; 0 is never"),
    ({"ticks_per_scene": -1}, "ticks_per_scene=-1; 0 is never"),
    ({"ticks_per_point": -1}, "ticks_per_point=-1; 0 is never"),
    ({"modalities": ("pixels", "smell")}, "use some of .*'segmentation'"),
    ({"modalities": ()}, "use some of"),
    ({"audio_rate_hz": 0}, "leave 'audio' out of modalities"),
  ],
)
def test_wrong_fields_are_named(fields, text):
  with pytest.raises(ValueError, match=text):
    synthetic.Config(**fields)
