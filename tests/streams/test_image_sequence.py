"""Numbered images are one recording: in order, once each, exactly resumed; losses are told of."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from image_folders import encode
from stream_checks import BARS, assert_restores, video_row
from video_files import number_of, picture

from perceiver_stream import streams
from perceiver_stream.streams import probe, video
from perceiver_stream.streams.damage import DamagedError


def write(folder, numbers, name="{:05d}.png", size=(24, 48)):
  folder.mkdir(parents=True, exist_ok=True)
  for n in numbers:
    (folder / name.format(n)).write_bytes(encode(picture(n, *size)))
  return folder


def shown(ticks):
  return [number_of(tick["pixels"]) for tick in ticks]


def valid(ticks):
  return [number_of(tick["pixels"]) for tick in ticks if tick["pixels_valid"]]


@pytest.mark.parametrize("name", ["{:05d}.png", "{}.png", "frame_{}_left.png"])
@pytest.mark.parametrize("pattern", ["", "/*.png"])
def test_a_folder_of_frames_is_one_recording(tmp_path, name, pattern):
  folder = write(tmp_path / "bear", range(12), name)
  ticks = assert_restores(video_row(f"{folder}{pattern}"))
  assert shown(ticks) == list(range(12))
  assert [bool(tick["is_first"]) for tick in ticks] == [True] + [False] * 11
  assert all(tick["pixels_valid"] for tick in ticks)
  assert not any(tick["audio_valid"] or tick["audio"].any() for tick in ticks)
  np.testing.assert_allclose([t["timestamp_s"] for t in ticks], np.arange(12) / 25)


def test_each_picture_alone_if_asked_for(tmp_path):
  folder = write(tmp_path / "bear", range(4))
  ticks = list(video_row(folder, image_sequences=False))
  assert shown(ticks) == [0, 1, 2, 3] and all(tick["is_first"] for tick in ticks)
  rows = streams.open_rows(video.Config(path=str(folder), image_sequences=False, **BARS), 4)
  assert len(rows) == 4
  with pytest.raises(ValueError, match="2 rows need at least as many files, .* has 1"):
    streams.open_rows(video.Config(path=str(folder), **BARS), 2)


@pytest.mark.parametrize(
  ("fields", "expected", "last_s"),
  [
    ({"rate_hz": 10.0}, [0, 1, 2, 3, 4, 5], 0.5),
    ({"rate_hz": 10.0, "image_rate_hz": 20.0}, [0, 2, 4], 0.2),
    ({"rate_hz": 20.0, "image_rate_hz": 10.0}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], 0.55),
    ({"rate_hz": 0.0, "image_rate_hz": 10.0}, [0, 1, 2, 3, 4, 5], 0.5),
    ({"rate_hz": 0.0}, [0, 1, 2, 3, 4, 5], 0.2),
  ],
)
def test_rates(tmp_path, fields, expected, last_s, caplog):
  row = video_row(write(tmp_path / "a", range(6)), audio_rate_hz=0, **fields)
  ticks = assert_restores(row)
  assert shown(ticks) == expected
  assert ticks[-1]["timestamp_s"] == pytest.approx(last_s)
  assert ("taken as 25 a second (image_rate_hz)" in caplog.text) == (fields == {"rate_hz": 0.0})


def test_recordings_follow_each_other_on_one_clock(tmp_path):
  write(tmp_path / "bear", range(3))
  write(tmp_path / "cow", range(10, 14))
  row = video_row(f"{tmp_path}/*/*.png", rate_hz=0.0, audio_rate_hz=0, loops=2)
  ticks = assert_restores(row)
  assert shown(ticks) == [0, 1, 2, 10, 11, 12, 13] * 2
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0, 3, 7, 10]
  np.testing.assert_allclose([t["timestamp_s"] for t in ticks], np.arange(14) / 25, atol=1e-6)


def test_missing_numbers_are_held_not_valid_and_told_of_on_a_clock(tmp_path, caplog):
  folder = write(tmp_path / "a", [0, 5, 10, 25, 30, 35])  # in steps of 5; two are missing
  row = video_row(folder, audio_rate_hz=0)
  with caplog.at_level(logging.WARNING):
    iterator = iter(row)
    ticks = list(iterator)
  assert shown(ticks) == [0, 5, 10, 10, 10, 25, 30, 35] and valid(ticks) == [0, 5, 10, 25, 30, 35]
  assert str(iterator.damage) == "gaps 2"
  assert "its numbers leave out 2 before 00025.png" in caplog.text
  assert "damaged" not in caplog.text
  assert_restores(row)
  ticks = list(video_row(folder, rate_hz=0.0, audio_rate_hz=0))
  assert shown(ticks) == [0, 5, 10, 25, 30, 35]
  assert ticks[3]["timestamp_s"] == pytest.approx(5 / 25)


@pytest.mark.parametrize("far", [30_000_000, 10**100])
def test_numbers_far_apart_are_an_order_and_no_times(tmp_path, far):
  folder = write(tmp_path / "a", [1, 2], "image_{}.png")
  (folder / f"image_{far}.png").write_bytes(encode(picture(3, 24, 48)))
  assert shown(list(video_row(folder))) == [1, 2, 3]


def test_an_image_that_is_not_whole_is_damage(tmp_path, caplog):
  folder = write(tmp_path / "a", range(6))
  for n in (0, 3, 4):
    path = folder / f"{n:05d}.png"
    path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(
    DamagedError, match=r"00000.png ... 00005.png is damaged: .*is cut off.*'skip'"
  ):
    list(video_row(folder))
  row = video_row(folder, on_damage="skip")
  with caplog.at_level(logging.WARNING):
    ticks = assert_restores(row)
  assert shown(ticks)[1:] == [1, 2, 2, 2, 5] and valid(ticks) == [1, 2, 5]
  assert not ticks[0]["pixels"].any()
  iterator = iter(row)
  list(iterator)
  assert str(iterator.damage) == "packets 3"


@pytest.mark.parametrize(
  ("suffix", "codec", "form"),
  [
    ("tga", "targa", "bgr24"),
    ("exr", "exr", "gbrpf32le"),
    ("jp2", "jpeg2000", "rgb24"),
    ("qoi", "qoi", "rgb24"),
  ],
)
def test_images_of_other_kinds(tmp_path, suffix, codec, form):
  for n in range(4):
    context = av.CodecContext.create(codec, "w")
    context.height, context.width, context.pix_fmt = 24, 48, form
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture(n, 24, 48), format="rgb24").reformat(format=form)
    packets = [*context.encode(frame), *context.encode(None)]
    (tmp_path / f"{n}.{suffix}").write_bytes(b"".join(bytes(packet) for packet in packets))
  assert probe.probe(str(tmp_path)) == (24, 48, 0.0, False, False)
  row = video_row(tmp_path, on_damage="skip", audio_rate_hz=0)
  assert shown(assert_restores(row)) == [0, 1, 2, 3]
  (tmp_path / f"2.{suffix}").write_bytes(b"no image")
  assert valid(list(row)) == [0, 1, 3]


def test_nothing_but_broken_images_ends_and_is_counted(tmp_path):
  folder = tmp_path / "a"
  folder.mkdir()
  for n in range(3):
    (folder / f"{n}.png").write_bytes(b"no image")
  iterator = iter(video_row(folder, on_damage="skip"))
  assert not any(tick["pixels_valid"] for tick in iterator) and iterator.damage.packets == 3


def test_another_size_midway_is_told_of(tmp_path, caplog):
  folder = write(tmp_path / "a", range(3))
  write(folder, range(3, 6), size=(48, 48))
  with caplog.at_level(logging.WARNING):
    assert shown(list(video_row(folder))) == list(range(6))
  (message,) = [record.message for record in caplog.records]
  assert "00003.png is 48×48, the ones before are 48×24; all are scaled to one size" in message


def test_other_images_in_their_place_are_noticed(tmp_path):
  folder = write(tmp_path / "a", range(6))
  iterator = iter(video_row(folder))
  for _ in range(3):
    next(iterator)
  state = iterator.get_state()
  write(folder, [6])
  again = iter(video_row(folder))
  again.set_state(state)
  with pytest.raises(DamagedError, match="has 7 images, and had 6 when the state"):
    next(again)
  (folder / "00006.png").unlink()
  (folder / "00002.png").write_bytes(encode(picture(9, 24, 48)))
  again = iter(video_row(folder))
  again.set_state(state)
  with pytest.raises(DamagedError, match="the image at tick 2 is not the one that was there"):
    next(again)


def test_what_is_known_of_images_before(tmp_path):
  folder = write(tmp_path / "a", range(2))
  assert probe.probe(str(folder)) == (24, 48, 0.0, False, False)
  assert probe.probe(str(folder / "00000.png")).is_picture
  write(tmp_path / "b", range(2))
  with pytest.raises(ValueError, match="holds 2 recordings .*; give one video, or one folder"):
    probe.probe(f"{tmp_path}/*/*.png")


def test_a_rate_of_images_must_be_possible():
  with pytest.raises(ValueError, match="rate_hz=-3.0 ticks per second; use"):
    video.Config(path="a", image_rate_hz=-3.0)
