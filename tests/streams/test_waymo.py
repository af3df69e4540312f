"""Waymo's segments are read without TensorFlow; damaged ones give clear errors."""

import numpy as np
import pytest
from stream_checks import BARS
from video_files import number_of
from waymo_files import frame, write_tfrecords, write_waymo

from perceiver_stream import streams
from perceiver_stream.files import limits, tfrecords
from perceiver_stream.streams import waymo
from perceiver_stream.streams.damage import DamagedError


def ticks(path, **fields):
  return list(streams.open_rows(waymo.Config(path=str(path), **BARS | fields))[0])


@pytest.mark.parametrize(("camera", "first"), [("front", 0), ("front_left", 100)])
@pytest.mark.parametrize("packed", [False, True])
def test_images_and_poses_of_one_camera(camera, first, packed, tmp_path):
  found = ticks(write_waymo(tmp_path / "a.tfrecord", 3, packed=packed), camera=camera)
  assert [number_of(tick["pixels"]) for tick in found] == [first, first + 1, first + 2]
  assert all(tick["pixels_valid"] and tick["vehicle_valid"] for tick in found)
  expected = [1, 0, 0, first + 1, 0, 1, 0, 2.5, 0, 0, 1, -1]
  np.testing.assert_array_equal(found[1]["vehicle"], np.float32(expected))


def test_times_are_those_of_the_frames(tmp_path):
  times = [7_000_000, 7_100_000, 7_300_000]  # one frame is missing
  write_tfrecords(tmp_path / "a.tfrecord", [frame(n, t) for n, t in enumerate(times)])
  found = ticks(tmp_path / "a.tfrecord")
  assert [number_of(tick["pixels"]) for tick in found] == [0, 1, 1, 2]
  twice = ticks(tmp_path / "a.tfrecord", rate_hz=20.0)
  assert [number_of(tick["pixels"]) for tick in twice] == [0, 0, 1, 1, 1, 1, 2]
  old = ticks(tmp_path / "a.tfrecord", max_age_s=0.05)
  assert [bool(tick["pixels_valid"]) for tick in old] == [True, True, False, True]


def test_the_time_is_found_behind_large_fields(tmp_path, monkeypatch):
  monkeypatch.setattr(waymo, "_HEAD_BYTES", 8)
  assert len(ticks(write_waymo(tmp_path / "a.tfrecord", 3))) == 3


def test_a_folder_is_a_list_of_segments(tmp_path):
  for name, num in (("b.tfrecord", 2), ("a.tfrecord", 3)):
    write_waymo(tmp_path / name, num)
  assert [tick["is_first"] for tick in ticks(tmp_path)] == [True, False, False, True, False]
  with pytest.raises(ValueError, match="3 rows need at least as many segments"):
    streams.open_rows(waymo.Config(path=str(tmp_path)), 3)
  with pytest.raises(FileNotFoundError, match="no .tfrecord file"):
    streams.open_rows(waymo.Config(path=str(tmp_path / "c")))


def test_frames_without_the_camera_are_damage(tmp_path):
  write_tfrecords(
    tmp_path / "a.tfrecord", [frame(0, 0), frame(1, 100_000, cameras=(2,)), frame(2, 200_000)]
  )
  with pytest.raises(DamagedError, match="record 1: no image of camera 'front'"):
    ticks(tmp_path / "a.tfrecord")
  found = ticks(tmp_path / "a.tfrecord", on_damage="skip")
  assert [bool(tick["pixels_valid"]) for tick in found] == [True, False, True]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda data: data[:-9], "the file is cut off"),
    (lambda data: data[:5], "ends in its length"),
    (lambda data: b"\1" + data[1:], "this is no TFRecord file"),
    (lambda data: b"", "has 0 frames"),
    (lambda data: data + b"x" * 12, "record 3: .*this is no TFRecord file"),
  ],
)
def test_damaged_files_are_refused_by_name(change, message, tmp_path):
  place = write_waymo(tmp_path / "a.tfrecord", 3)
  place.write_bytes(change(place.read_bytes()))
  with pytest.raises(DamagedError, match=f"a.tfrecord.*{message}"):
    ticks(place)


def test_records_that_are_no_frames_are_refused(tmp_path):
  for record in (b"", b"\xff" * 40, frame(0, 0)[:30]):
    place = write_tfrecords(tmp_path / "a.tfrecord", [record])
    with pytest.raises(DamagedError, match="record 0"):
      ticks(place)
  out_of_order = write_tfrecords(tmp_path / "b.tfrecord", [frame(0, 9), frame(1, 3)])
  with pytest.raises(DamagedError, match="in order of time"):
    ticks(out_of_order)


def test_records_that_are_too_large_are_refused(tmp_path, monkeypatch):
  place = write_waymo(tmp_path / "a.tfrecord", 3)
  monkeypatch.setattr(limits, "MAX_MESSAGES", 2)
  with pytest.raises(DamagedError, match="more than 2 records"):
    ticks(place)
  monkeypatch.setattr(limits, "MAX_CHUNK_BYTES", 20)
  with pytest.raises(DamagedError, match="at most 20"):
    ticks(place)
  with pytest.raises(limits.RefusedError, match="not a regular file"):
    tfrecords.places(tmp_path)


def test_checksums_are_those_of_the_format():
  assert masked(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32


def masked(data):
  return tfrecords.masked_crc(data)


# Written by tf.io.TFRecordWriter of TensorFlow 2.21.
BY_TENSORFLOW = (
  "0300000000000000b099490e" "6f6e65" "01405508"
  "000000000000000029039807" "d8ea82a2"
  "0500000000000000eab2043e" "7468726565" "6023fb45"
)  # fmt: skip


def test_records_of_tensorflow_are_read(tmp_path):
  (tmp_path / "a").write_bytes(bytes.fromhex(BY_TENSORFLOW))
  found = tfrecords.places(tmp_path / "a")
  with (tmp_path / "a").open("rb") as file:
    assert [tfrecords.read(file, place) for place in found] == [b"one", b"", b"three"]


@pytest.mark.parametrize(
  ("field", "value"),
  [("camera", "roof"), ("audio_rate_hz", 16000), ("max_age_s", 0.0), ("loops", 0), ("width", 0)],
)
def test_wrong_fields_are_refused(field, value):
  with pytest.raises(ValueError, match=f"{field}="):
    waymo.Config(**{field: value})
