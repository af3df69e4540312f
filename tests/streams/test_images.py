"""Folders of pictures with depth: the right one at the right time, in metres, or not valid."""

from fractions import Fraction

import numpy as np
import pytest
from image_folders import encode, raw_depth, write_scannet, write_tum, write_visp
from stream_checks import BARS, assert_restores
from video_files import number_of, picture

from perceiver_stream import streams
from perceiver_stream.streams import image_files, images
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.image_files import UNITS, nearest, read_depth, read_pixels

ALL = ("pixels", "depth", "camera")


def config_of(folder, **fields):
  return images.Config(path=str(folder), **BARS | {"rate_hz": 30.0} | fields)


def read(folder, **fields):
  return list(streams.open_rows(config_of(folder, **fields))[0])


def numbers(ticks):
  return [number_of(tick["pixels"]) for tick in ticks]


def depth_of(tick):
  """Returns the one depth of a tick, and checks that its first column is unknown."""
  assert np.isnan(tick["depth"][:, 0]).all()
  known = np.unique(tick["depth"][:, 1:])
  assert known.shape == (1,)
  return known[0]


def test_visp_raw_depth_in_metres(tmp_path):
  ticks = read(write_visp(tmp_path / "castel", 5, start=3))
  assert numbers(ticks) == [3, 4, 5, 6, 7]
  np.testing.assert_allclose(
    [depth_of(t) for t in ticks], np.arange(4, 9) * UNITS["visp"], rtol=1e-6
  )
  assert all(tick["pixels_valid"] and tick["depth_valid"] for tick in ticks)
  assert [bool(t["is_first"]) for t in ticks] == [True] + [False] * 4


def test_tum_is_put_together_by_time_and_knows_nothing_of_later(tmp_path):
  ticks = read(write_tum(tmp_path / "tum", 6), rate_hz=25.0, modalities=ALL)
  assert numbers(ticks) == [0, 1, 2, 3, 4, 5]
  assert [bool(tick["depth_valid"]) for tick in ticks] == [False] + [True] * 5
  np.testing.assert_allclose([depth_of(t) * 5000 for t in ticks[1:]], [1, 2, 3, 4, 5], rtol=1e-5)
  pose = ticks[3]["camera"].reshape(3, 4)
  np.testing.assert_allclose(pose, [[0, -1, 0, 3], [1, 0, 0, 0], [0, 0, 1, 0.5]], atol=1e-6)


def test_scannet_in_millimetres_with_poses(tmp_path):
  folder = write_scannet(tmp_path / "scene", 4)
  np.savetxt(folder / "pose" / "2.txt", np.full((4, 4), -np.inf))
  ticks = read(folder, modalities=ALL)
  np.testing.assert_allclose([depth_of(t) for t in ticks], np.arange(1, 5) / 1000, rtol=1e-6)
  assert [bool(tick["camera_valid"]) for tick in ticks] == [True, True, False, True]
  assert [tick["camera"][3] for tick in ticks] == [0, 1, 1, 3]


def test_exports_that_skip_numbers_run_at_the_rate_given(tmp_path):
  ticks = read(write_scannet(tmp_path / "scene", 4, step=20), source_rate_hz=15.0, rate_hz=15.0)
  assert numbers(ticks) == [0, 1, 2, 3]
  assert all(tick["pixels_valid"] and tick["depth_valid"] for tick in ticks)


@pytest.mark.parametrize(
  ("rate_hz", "expected"), [(60.0, [0, 0, 1, 1, 2, 2, 3]), (15.0, [0, 2]), (10.0, [0, 3])]
)
def test_other_rates_show_the_last_one_taken(tmp_path, rate_hz, expected):
  assert numbers(read(write_visp(tmp_path / "a", 4, start=0), rate_hz=rate_hz)) == expected


def test_what_is_too_old_is_not_valid(tmp_path):
  folder = write_tum(tmp_path / "tum", 9)
  lines = (folder / "depth.txt").read_text().splitlines()
  (folder / "depth.txt").write_text("\n".join(lines[:3] + lines[7:]))
  ticks = read(folder, rate_hz=25.0, max_age_s=0.1)
  valid = [bool(tick["depth_valid"]) for tick in ticks]
  assert valid == [False, True, True, True, True, False, False, False, True]
  assert all(tick["pixels_valid"] for tick in ticks)


def spoil(folder, how):
  path = folder / "color" / "2.png"
  if how == "missing":
    path.unlink()
  elif how == "cut":
    path.write_bytes(path.read_bytes()[:-20])
  elif how == "flipped":
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
  else:
    path.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "cut", "flipped", "empty"])
def test_a_lost_picture_is_held_not_valid_and_told(tmp_path, how, caplog):
  folder = write_scannet(tmp_path / "scene", 5)
  spoil(folder, how)
  with pytest.raises(DamagedError, match="scene is damaged: .*(missing|2.png).*on_damage='skip'"):
    read(folder)
  caplog.clear()
  dataset = streams.open_rows(config_of(folder, on_damage="skip"))[0]
  ticks = assert_restores(dataset)
  assert numbers(ticks) == [0, 1, 1, 3, 4]
  assert [bool(tick["pixels_valid"]) for tick in ticks] == [True, True, False, True, True]
  assert all(tick["depth_valid"] for tick in ticks)
  assert "continuing after it" in caplog.text


def test_a_hole_is_one_item_however_long(tmp_path, caplog):
  folder = write_scannet(tmp_path / "scene", 14)
  for n in range(4, 9):
    for inside in ("color", "depth", "pose"):
      next((folder / inside).glob(f"{n}.*")).unlink()
  with pytest.raises(DamagedError, match=r"5 pixels file\(s\) between others are missing"):
    read(folder)
  iterator = iter(streams.open_rows(config_of(folder, on_damage="skip"))[0])
  ticks = list(iterator)
  assert numbers(ticks) == [0, 1, 2, 3, 3, 3, 3, 3, 3, 9, 10, 11, 12, 13]
  for name in ("pixels", "depth"):
    expected = [not 4 <= n < 9 for n in range(14)]
    assert [bool(tick[f"{name}_valid"]) for tick in ticks] == expected
  assert "lost 10" in caplog.text
  track = image_files.read_tracks(folder, "scannet", Fraction(30))["pixels"]
  assert [item for item in track.items if isinstance(item, int)] == [5]


@pytest.mark.parametrize("far", [30_000_000, 20240131, 10**100])
def test_numbers_far_apart_are_an_order_and_no_times(tmp_path, far):
  folder = write_visp(tmp_path / "a", 2)
  gray = picture(7, 24, 48)[..., 0]
  (folder / f"image_{far}.pgm").write_bytes(b"P5 48 24 255\n" + gray.tobytes())
  ticks = read(folder, modalities=("pixels",))
  assert numbers(ticks) == [1, 2, 7] and all(tick["pixels_valid"] for tick in ticks)


@pytest.mark.parametrize("cut", [3, 9, -1])
def test_raw_depth_of_another_length_is_damage(tmp_path, cut):
  folder = write_visp(tmp_path / "a", 3)
  path = folder / "depth_image_0001.bin"
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(DamagedError, match="0001.bin has .* bytes, not those of"):
    read(folder)
  first = read(folder, on_damage="skip")[0]
  assert not first["depth_valid"] and not first["depth"].any() and first["pixels_valid"]


def test_sizes_may_differ_from_picture_to_picture(tmp_path):
  folder = write_scannet(tmp_path / "scene", 3)
  (folder / "color" / "1.png").write_bytes(encode(picture(1, 100, 300)))
  (folder / "depth" / "1.png").write_bytes(encode(raw_depth(1, 240, 480)))
  ticks = read(folder)
  assert numbers(ticks) == [0, 1, 2]
  assert np.nanmax(ticks[1]["depth"]) == np.nanmin(ticks[1]["depth"]) == np.float32(0.002)


@pytest.mark.parametrize("crop", ["centre", "squash"])
@pytest.mark.parametrize("size", [(12, 30), (20, 14)])
def test_depth_is_cut_as_pictures_are(tmp_path, crop, size):
  y, x = np.mgrid[:40, :60]
  (tmp_path / "a.png").write_bytes(encode(np.stack([y * 4, x * 4, 0 * x], -1).astype(np.uint8)))
  pixels = read_pixels(tmp_path / "a.png", *size, crop)
  for axis, value in ((0, y), (1, x)):
    (tmp_path / "d.png").write_bytes(encode((value * 4 + 1).astype(np.uint16)))
    depth = read_depth(tmp_path / "d.png", *size, crop, 1.0) - 1
    assert np.abs(depth - pixels[..., axis]).max() <= 8, "less than two of 40 or 60 pixels"


def test_nearest_of_the_same_size_is_all():
  for crop in images.CROPS:
    rows, columns = nearest((5, 7), (5, 7), crop)
    assert (rows.tolist(), columns.tolist()) == (list(range(5)), list(range(7)))


def test_a_folder_of_sequences_is_a_playlist(tmp_path):
  write_visp(tmp_path / "1", 3, start=0)
  write_scannet(tmp_path / "2", 2)
  (tmp_path / "notes").mkdir()
  ticks = read(tmp_path, loops=2)
  assert numbers(ticks) == [0, 1, 2, 0, 1] * 2
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0, 3, 5, 8]
  assert [len(list(row)) for row in streams.open_rows(config_of(tmp_path), 2)] == [3, 2]
  with pytest.raises(ValueError, match="3 rows need at least as many sequences.*has 2"):
    streams.open_rows(config_of(tmp_path), 3)
  assert numbers(read(tmp_path, layout="scannet")) == [0, 1]


def test_what_is_not_there_is_said(tmp_path):
  with pytest.raises(ValueError, match="path is empty"):
    read("")
  with pytest.raises(FileNotFoundError, match="there is no folder .*gone"):
    read(tmp_path / "gone")
  with pytest.raises(ValueError, match=r"no sequence of layout 'auto' .*none at all"):
    read(tmp_path)
  write_visp(tmp_path / "a", 2)
  with pytest.raises(ValueError, match=r"no sequence of layout 'tum' .*\['visp'\]"):
    read(tmp_path, layout="tum")
  with pytest.raises(DamagedError, match="has no camera; leave it out of modalities"):
    read(tmp_path, modalities=ALL)


def test_a_line_that_is_none_is_named(tmp_path):
  folder = write_tum(tmp_path / "tum", 2)
  with (folder / "groundtruth.txt").open("a") as file:
    file.write("13.5 1 2\n")
  with pytest.raises(DamagedError, match="groundtruth.txt: the line '13.5 1 2' has no"):
    read(folder, modalities=ALL)


@pytest.mark.parametrize(
  "fields",
  [{"audio_rate_hz": 48000}, {"layout": "kitti"}, {"crop": "fit"}, {"on_damage": "hide"}]
  + [{"height": 0}, {"loops": 0}, {"max_age_s": 0.0}, {"modalities": ("depth",)}],
)
def test_wrong_fields_are_refused(fields):
  with pytest.raises(ValueError, match=f"images: .*{next(iter(fields))}="):
    images.Config(**fields)


def test_states_of_other_places_are_refused(tmp_path):
  iterator = iter(streams.open_rows(config_of(write_visp(tmp_path / "a", 2)))[0])
  with pytest.raises(ValueError, match="at recording 3, but there are 1"):
    iterator.set_state({"loop": 0, "file": 3, "tick": 0, "count": 0})
