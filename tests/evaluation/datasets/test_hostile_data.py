"""Data sets made to fill memory, to hang, or to lead elsewhere are refused by name."""

import os
import pickle

import cv2
import data_files
import numpy as np
import pytest
from scenes import moving

from perceiver_stream.evaluation.datasets import files, load
from perceiver_stream.files import limits
from perceiver_stream.files.image_headers import image_size


def resized_header(data, height, width):
  """Returns a JPEG or PNG whose header states another size."""
  if data[:4] == b"\x89PNG":
    return data[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:]
  at = data.index(b"\xff\xc0") + 5
  return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


@pytest.mark.parametrize("encode", [data_files.jpeg, data_files.png])
def test_images_of_far_too_many_pixels_are_refused_before_they_are_decoded(encode, monkeypatch):
  data = encode(moving(1, 32)[0])
  assert files.decoded(data, "x").shape == (32, 32, 3)
  monkeypatch.setattr(cv2, "imdecode", None)
  with pytest.raises(ValueError, match="x refused: an image of 30000 x 40000 pixels"):
    files.decoded(resized_header(data, 30_000, 40_000), "x")


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
@pytest.mark.parametrize("shape", [(17, 40, 3), (33, 8)])
def test_sizes_are_read_from_headers(options, shape):
  image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
  assert image_size(cv2.imencode(".jpg", image, options)[1].tobytes()) == shape[:2]
  assert image_size(cv2.imencode(".png", image)[1].tobytes()) == shape[:2]


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 20, 30])
def test_what_has_no_size_is_no_image(cut):
  data = data_files.jpeg(moving(1, 32)[0])
  for piece in (data[:cut], b"GIF89a" + data, data[:2] + b"\xff\xda" + data[2:], b"II*\0" + data):
    with pytest.raises(ValueError, match="cannot be decoded"):
      files.decoded(piece, "x")


def tapvid(tmp_path, **changes):
  path = data_files.write_pickle(tmp_path / "a.pkl", {"v": data_files.tapvid_video() | changes})
  return load("tapvid", path)


def test_the_same_frame_many_times_over_is_no_video(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, "HEADROOM_BYTES", 10 * 256 * 256 * 3)
  frame = data_files.jpeg(moving(1, 32)[0])
  with pytest.raises(ValueError, match="video v refused: [0-9]+ bytes become images of more than"):
    next(tapvid(tmp_path, video=200 * [frame]))
  with pytest.raises(ValueError, match="video v refused: [0-9]+ bytes become images"):
    next(tapvid(tmp_path, video=np.zeros((6000, 1, 1, 3), np.uint8)))


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("points", [[[0.5, 0.5]]], "points: a list, expected an array of numbers"),
    ("occluded", None, "occluded: a NoneType, expected an array of numbers"),
    ("points", np.asarray([b"a"]), "points: a .S1, expected an array of numbers"),
    ("video", 3, "video v: a int, expected an array of numbers"),
    ("video", [], "video v: a list, expected an array of numbers"),
    ("video", [b"x", 3], "video v: a list, expected an array of numbers"),
    ("video", "text", "video v: a str, expected an array of numbers"),
    ("video", np.zeros((0, 4, 4, 3), np.uint8), r"video uint8 \[0, 4, 4, 3\]; expected uint8"),
    ("video", np.zeros((4, 0, 4, 3), np.uint8), r"video uint8 \[4, 0, 4, 3\]; expected uint8"),
    ("video", np.zeros((), np.uint8), r"video uint8 \[\]; expected uint8"),
    ("video", [b"x"], r"video v \(1 bytes\) cannot be decoded"),
  ],
)
def test_tapvid_of_something_else_is_refused_by_name(name, value, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    next(tapvid(tmp_path, **{name: value}))


@pytest.mark.parametrize("name", ["../../clip", "/etc", ".."])
def test_names_that_lead_out_of_a_data_set_are_refused(name, tmp_path):
  davis = data_files.write_davis(tmp_path / "davis", {"a": data_files.masks()})
  (davis / "ImageSets/2017/val.txt").write_text(name)
  vip = data_files.write_vip(tmp_path / "vip", {"a": data_files.masks()})
  (vip / "lists/val_videos.txt").write_text(name)
  jhmdb = data_files.write_jhmdb(tmp_path / "jhmdb", {("run", "a"): np.ones((3, 15, 2))})
  (jhmdb / "splits/run_test_split1.txt").write_text(f"{name}.avi 2")
  test = data_files.write_perception_test(tmp_path / "perception")
  text = (test / "annotations/valid.json").read_text()
  (test / "annotations/valid.json").write_text(text.replace('"video_0001": {', f'"{name}/x": {{'))
  for kind, root in [
    ("davis", davis),
    ("vip", vip),
    ("jhmdb", jhmdb),
    ("perception_test_points", test),
  ]:
    with pytest.raises(ValueError, match="refused: it names the file .* not inside it"):
      next(load(kind, root))


def test_lists_and_frames_that_are_pipes_are_refused(tmp_path):
  davis = data_files.write_davis(tmp_path / "davis", {"a": data_files.masks()})
  frame = davis / "JPEGImages/480p/a/00001.jpg"
  frame.unlink()
  os.mkfifo(frame)
  with pytest.raises(ValueError, match="00001.jpg refused: it is not a regular file"):
    next(load("davis", davis))
  (davis / "ImageSets/2017/val.txt").unlink()
  os.mkfifo(davis / "ImageSets/2017/val.txt")
  with pytest.raises(ValueError, match="val.txt refused: it is not a regular file"):
    load("davis", davis)


def test_joints_that_unpack_to_far_too_much_are_refused(tmp_path, monkeypatch):
  root = data_files.write_jhmdb(
    tmp_path, {("run", "a"): np.ones((3, 15, 2)), ("run", "b"): np.ones((3, 15, 2))}
  )
  monkeypatch.setattr(limits, "HEADROOM_BYTES", 2 * 15 * 3 * 8 - 1)
  with pytest.raises(ValueError, match="joint_positions.mat cannot be read .*far too large"):
    list(load("jhmdb", root))


@pytest.mark.parametrize(
  "changes",
  [
    {"point_tracking": [3]},
    {"point_tracking": {"a": 1}},
    {"metadata": {}},
    {"metadata": None},
    {"point_tracking": [{"id": 0}]},
    {"point_tracking": [{"frame_ids": [0.5], "points": [[1], [1]]}]},
    {"point_tracking": [{"frame_ids": [0], "points": "x"}]},
    {"point_tracking": [{"frame_ids": [[0]], "points": [[1], [1]]}]},
    {"point_tracking": 3_000_000 * [0]},
  ],
  ids=range(9),
)
def test_perception_test_of_something_else_is_refused_by_name(changes, tmp_path):
  root = data_files.write_perception_test(tmp_path, **changes)
  with pytest.raises(ValueError, match="video_0001|hold more than [0-9]+ values"):
    list(load("perception_test_points", root))


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"a": 3}', "\udcff"])
def test_annotations_of_something_else_are_refused_by_name(text, tmp_path):
  root = data_files.write_perception_test(tmp_path)
  (root / "annotations/valid.json").write_bytes(text.encode(errors="surrogateescape"))
  with pytest.raises(ValueError, match="valid.json"):
    list(load("perception_test_points", root))


def test_a_pickle_of_pickles_is_no_video(tmp_path):
  path = tmp_path / "a.pkl"
  for value in (3, "text", [3], {"v": [1]}, np.zeros(2)):
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match="a.pkl"):
      list(load("tapvid", path))
