"""The synthetic world tells the truth about itself."""

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import synthetic


def ticks(num=12, row=0, **fields):
  config = synthetic.Config(**{"height": 48, "width": 64, "max_ticks": num, "seed": 3} | fields)
  return list(streams.open_rows(config, row + 1)[row])


def test_same_seed_same_world_other_seed_or_row_another():
  one, again = ticks(3), ticks(3)
  for a, b in zip(one, again, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  for other in (ticks(3, seed=4), ticks(3, row=1)):
    assert (one[0]["pixels"] != other[0]["pixels"]).mean() > 0.5


def test_flow_is_where_everything_goes():
  """What moves by its flow and is still seen has its colour there, up to interpolation."""
  seq = ticks(10, speed=2.0)
  y, x = np.mgrid[:48, :64]
  for now, after in zip(seq, seq[1:], strict=False):
    to_x, to_y = x + now["flow"][..., 0], y + now["flow"][..., 1]
    near_x, near_y = np.rint(to_x).astype(int), np.rint(to_y).astype(int)
    inside = (near_x > 0) & (near_x < 63) & (near_y > 0) & (near_y < 47)
    moved = bilinear(after["pixels"], to_x.clip(0, 62.99), to_y.clip(0, 46.99))
    label = after["segmentation"]
    cells = [
      label[near_y.clip(1, 46) + dy, near_x.clip(1, 62) + dx]
      for dy in (-1, 0, 1)
      for dx in (-1, 0, 1)
    ]
    same = inside & np.all([cell == now["segmentation"] for cell in cells], axis=0)
    assert same.mean() > 0.6
    error = np.abs(moved - now["pixels"])[same]
    still = np.abs(after["pixels"].astype(float) - now["pixels"])[same]
    assert error.max() < 8 and error.mean() < 0.3 * still.mean()


def bilinear(picture, x, y):
  left, top = np.floor(x).astype(int), np.floor(y).astype(int)
  part_x, part_y = (x - left)[..., None], (y - top)[..., None]
  p = picture.astype(float)
  upper = p[top, left] * (1 - part_x) + p[top, left + 1] * part_x
  lower = p[top + 1, left] * (1 - part_x) + p[top + 1, left + 1] * part_x
  return upper * (1 - part_y) + lower * part_y


def test_one_thing_one_flow_one_depth_and_the_nearer_hides_the_farther():
  for tick in ticks(6):
    depths = []
    for label in np.unique(tick["segmentation"]):
      mask = tick["segmentation"] == label
      assert np.ptp(tick["flow"][mask], axis=0).max() == 0
      assert np.ptp(tick["depth"][mask]) == 0
      depths.append(tick["depth"][mask][0])
    assert depths == sorted(depths, reverse=True), "ids grow towards the eye"


def test_everything_moves_and_sounds():
  seq = ticks(30)
  assert len({tick["pixels"].tobytes() for tick in seq}) == 30
  assert all(np.sqrt(np.mean(tick["audio"] ** 2)) > 1e-3 for tick in seq[1:])
  assert max(np.abs(tick["flow"]).max() for tick in seq) < 5, "no thing jumps"


def test_what_stands_still_is_silent():
  for tick in ticks(3, speed=0.0):
    assert not tick["audio"].any()
    assert not tick["flow"].any()


def test_louder_when_faster():
  loudness = [
    np.mean([np.abs(t["audio"]).mean() for t in ticks(20, speed=s)]) for s in (0.3, 1.0, 2.0)
  ]
  assert loudness == sorted(loudness)


def test_sound_is_one_wave_over_the_ticks():
  for speed in (1.0, 3.0):
    wave = np.concatenate([tick["audio"] for tick in ticks(20, speed=speed)])
    steps = np.abs(np.diff(wave)).reshape(-1)
    seams = steps[639::640]
    assert seams.max() <= np.sort(steps)[-20] * 1.1, "no click where two ticks meet"


def test_far_ahead_is_as_quick_and_as_good():
  iterator = iter(streams.open_rows(synthetic.Config(height=24, width=24))[0])
  iterator.set_state({"tick": 10**9})
  tick = next(iterator)
  assert tick["timestamp_s"] == 4e7
  assert tick["pixels"].std() > 5 and np.abs(tick["audio"]).max() <= 1


def test_every_recording_is_another_world():
  seq = ticks(9, ticks_per_recording=3)
  assert [bool(tick["is_first"]) for tick in seq] == [True, False, False] * 3
  assert len({tick["pixels"].tobytes() for tick in seq}) == 9


def test_only_what_is_asked_for():
  config = synthetic.Config(modalities=("depth", "pixels"), audio_rate_hz=0, max_ticks=1)
  assert list(streams.specs(config)) == ["depth", "pixels"]
  assert "audio" not in next(iter(streams.open_rows(config)[0]))


@pytest.mark.parametrize(
  ("fields", "text"),
  [
    ({"height": 4}, "height=4; use at least 8"),
    ({"num_things": -1}, "num_things=-1"),
    ({"ticks_per_recording": -1}, "ticks_per_recording=-1; 0 is never"),
    ({"modalities": ("pixels", "smell")}, "use some of .*'segmentation'"),
    ({"modalities": ()}, "use some of"),
    ({"audio_rate_hz": 0}, "leave 'audio' out of modalities"),
  ],
)
def test_wrong_fields_are_named(fields, text):
  with pytest.raises(ValueError, match=text):
    synthetic.Config(**fields)
