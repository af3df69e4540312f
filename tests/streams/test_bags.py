"""Recordings of robots are read as other readers read them, on the ticks of files."""

import json

import numpy as np
import pytest
import robot_files as robots
from extras import need
from stream_checks import BARS, assert_restores, assert_same
from video_files import number_of, picture

from perceiver_stream import streams
from perceiver_stream.streams import bags

need("mcap", "rosbags", "lz4", "zstandard")
START = robots.START_NS


def ticks(path, **fields):
  (row,) = streams.open_rows(bags.Config(path=str(path), **BARS | fields))
  return list(row)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
  return robots.write_mcap(tmp_path_factory.mktemp("bags") / "walk.mcap", robots.walk())


def test_each_topic_has_its_own_rate(walk):
  found = ticks(walk)
  assert len(found) == 14
  for at, tick in enumerate(found):
    assert number_of(tick["pixels"]) == at and tick["pixels_valid"]
    np.testing.assert_allclose(tick["imu"], [4 * at, 0.25, -0.5, 0, 2, -1], rtol=1e-6)
    newest = 40 * at // 100
    np.testing.assert_allclose(tick["joints"], [newest, newest + 0.5, -newest, -newest - 0.5])
    assert tick["imu_valid"] and tick["joints_valid"]


def test_nothing_is_later_than_its_tick(tmp_path):
  """Messages 1 ns late are of the next tick."""
  late = [(t, k, time + (t == "/imu"), m) for t, k, time, m in robots.walk(6)]
  found = ticks(robots.write_mcap(tmp_path / "late.mcap", late))
  assert [tick["imu"][0] for tick in found] == [0, *(4 * at - 1 for at in range(1, 6))]
  assert not found[0]["imu_valid"] and found[1]["imu_valid"], "nothing yet"


def test_what_is_old_is_not_valid(tmp_path):
  some = [entry for entry in robots.walk(20) if entry[0] == "/camera" or entry[2] == START]
  found = ticks(robots.write_mcap(tmp_path / "old.mcap", some), max_age_s=0.2)
  assert [tick["imu_valid"] for tick in found] == [at <= 5 for at in range(20)]


@pytest.mark.parametrize("rate_hz", [12.5, 50.0])
def test_ticks_have_the_rate_of_the_config(walk, rate_hz):
  found = ticks(walk, rate_hz=rate_hz)
  numbers = [number_of(tick["pixels"]) for tick in found]
  assert numbers == [int(at * 25 / rate_hz) for at in range(len(found))] and numbers[-1] >= 12


@pytest.mark.parametrize("packing", ["NONE", "LZ4"])
@pytest.mark.parametrize("fields", [{}, {"index": False}, {"use_chunking": False}])
def test_all_ways_to_write_mcap(tmp_path, walk, packing, fields):
  path = robots.write_mcap(tmp_path / "a.mcap", robots.walk(), packing=packing, **fields)
  for one, other in zip(ticks(path), ticks(walk), strict=True):
    assert_same(one, other)


def test_topics_that_start_late_are_there(tmp_path):
  """Their channel is inside a chunk that has messages of earlier topics too."""
  entries = [entry for entry in robots.walk(20) if entry[0] == "/imu"]
  late = [entry for entry in robots.walk(20) if entry[0] in ("/camera", "/joints")]
  entries += [entry for entry in late if entry[2] > START + 3 * 10**8]
  entries.sort(key=lambda entry: entry[2])
  indexed = ticks(robots.write_mcap(tmp_path / "a.mcap", entries, chunk=4000))
  assert {"imu", "pixels", "joints"} < set(indexed[0])
  walked = ticks(robots.write_mcap(tmp_path / "b.mcap", entries, chunk=4000, index=False))
  for one, other in zip(indexed, walked, strict=True):
    assert_same(one, other)


@pytest.mark.parametrize("storage", ["SQLITE3", "MCAP"])
def test_ros_2_bags(tmp_path, walk, storage):
  folder = robots.write_bag(tmp_path / "bag", robots.walk(), storage)
  for one, other in zip(ticks(folder), ticks(walk), strict=True):
    assert_same(one, other)


def test_a_bag_of_ros_1_is_refused_with_the_command_that_converts_it(tmp_path, walk, monkeypatch):
  from rosbags.convert import cli

  old = robots.write_ros1(tmp_path / "old.bag", robots.walk())
  for config in (bags.Config(path=str(old)), streams.video.Config(path=str(old))):
    with pytest.raises(ValueError, match="bag of ROS 1") as error:
      streams.open_rows(config)
  words = str(error.value).split("rosbags-convert ")[1].split(", then")[0].split()
  assert words == ["--src", str(tmp_path / "old.bag"), "--dst", str(tmp_path / "old")]
  monkeypatch.setattr("sys.argv", ["rosbags-convert", *words])
  with pytest.raises(SystemExit) as ended:
    cli.main()
  assert not ended.value.code
  for one, other in zip(ticks(tmp_path / "old"), ticks(walk), strict=True):
    assert_same(one, other)


def test_files_of_a_bag_are_one_recording_and_other_files_are_each_one(tmp_path):
  entries = robots.walk()
  for number, part in enumerate((entries[:30], entries[30:])):
    robots.write_mcap(tmp_path / f"part_{number}.mcap", part)
  assert sum(tick["is_first"] for tick in ticks(tmp_path, topics=("pixels",))) == 2
  (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
  found = ticks(tmp_path)
  assert [number_of(tick["pixels"]) for tick in found] == [*range(14)]
  rows = streams.open_rows(bags.Config(path=f"{tmp_path},{tmp_path}"), 2)
  assert [len(list(row)) for row in rows] == [14, 14]


@pytest.mark.parametrize(
  ("codec", "options"),
  [
    ("libx264", {"tune": "zerolatency"}),
    ("libx264", {}),
    ("libx265", {"x265-params": "log-level=none:bframes=0"}),
  ],
)
def test_video_is_decoded_and_resumed_exactly(tmp_path, codec, options):
  frames = robots.video_messages(12, codec, **options)
  entries = [("/cam", robots.VIDEO, START + n * 4 * 10**7, m) for n, m in enumerate(frames)]
  path = robots.write_mcap(tmp_path / "video.mcap", entries)
  (row,) = streams.open_rows(bags.Config(path=str(path), **BARS))
  found = assert_restores(row)
  assert [number_of(tick["pixels"]) for tick in found] == [*range(12)]
  slow = ticks(path, rate_hz=25 / 3)
  assert [number_of(tick["pixels"]) for tick in slow] == [0, 3, 6, 9]


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "8UC3"])
@pytest.mark.parametrize("pad", [0, 5])
def test_raw_images(tmp_path, encoding, pad):
  colours = picture(1365, 24, 48).copy()
  if "mono" not in encoding:
    colours[..., 2] //= 2
  order = [2, 1, 0] if encoding.startswith("b") or encoding == "8UC3" else [0, 1, 2]
  array = np.dstack([colours[..., order], np.full((24, 48), 255, np.uint8)])
  array = array[..., : 1 if "mono" in encoding else 4 if "a" in encoding else 3]
  big = encoding == "mono16"
  array = array.astype(np.uint16) * 257 if big else array
  message = robots.raw(array.squeeze(), encoding, big, pad)
  path = robots.write_mcap(tmp_path / "raw.mcap", [("/a", robots.RAW, START, message)])
  (tick,) = ticks(path)
  np.testing.assert_allclose(tick["pixels"].astype(int), colours, atol=2)


@pytest.mark.parametrize(("encoding", "big"), [("16UC1", False), ("16UC1", True), ("32FC1", False)])
def test_depth_in_metres(tmp_path, encoding, big):
  values = np.arange(24 * 48).reshape(24, 48)
  array = (values / 100).astype(np.float32) if encoding == "32FC1" else values.astype(np.uint16)
  path = tmp_path / "depth.mcap"
  robots.write_mcap(path, [("/depth", robots.RAW, START, robots.raw(array, encoding, big, 3))])
  (tick,) = ticks(path)
  unit = 0.01 if encoding == "32FC1" else 0.001
  assert np.isnan(tick["depth"][0, 0]) and tick["depth"].dtype == np.float32
  np.testing.assert_allclose(tick["depth"].ravel()[1:], values.ravel()[1:] * unit, rtol=1e-6)


def test_joints_are_found_by_name(tmp_path):
  messages = [
    robots.joints(1, ("a", "b"), velocities=False),
    robots.joints(2, ("b", "c", "a"), velocities=False),
    robots.joints(3, ("a",), velocities=False),
  ]
  entries = [("/j", robots.JOINTS, START + n * 4 * 10**7, m) for n, m in enumerate(messages)]
  found = ticks(robots.write_mcap(tmp_path / "j.mcap", entries), on_damage="skip")
  np.testing.assert_array_equal([tick["joints"] for tick in found], [[1, 1.5], [3, 2], [3, 2]])
  assert [bool(tick["joints_valid"]) for tick in found] == [True, True, False]


def test_topics_are_chosen_and_named(walk):
  config = bags.Config(path=str(walk), topics=("left=/camera", "imu"), **BARS)
  assert set(streams.specs(config)) == {"left", "imu"}
  assert streams.specs(config)["imu"].shape == (6,)
  silent = bags.Config(path=str(walk), topics=("pixels",), audio_rate_hz=8000)
  (tick, *_) = streams.open_rows(silent)[0]
  assert tick["audio"].shape == (320,) and not tick["audio_valid"]


@pytest.mark.parametrize(
  ("topic", "message"),
  [
    (
      "pixels=/front",
      r"'pixels=/front': there is no such topic.*It has: /camera \(sensor_msgs/Comp",
    ),
    ("depth", r"'depth': there is no such topic; use NAME=TOPIC.*/imu \(sensor_msgs/Imu, 56 mess"),
    ("words=/say", r"of /say \(std_msgs/String, 1 messages\) \(cdr\) are not decoded"),
  ],
)
def test_a_topic_that_is_not_there_names_those_that_are(walk, topic, message):
  with pytest.raises(ValueError, match=message):
    streams.specs(bags.Config(path=str(walk), topics=(topic,)))


@pytest.mark.parametrize(
  "field",
  [
    {"height": 0},
    {"crop": "round"},
    {"on_damage": "cry"},
    {"loops": 0},
    {"max_age_s": 0.0},
    {"topics": ("pixels=/a", "pixels=/b")},
    {"topics": ("=/a",)},
  ],
)
def test_wrong_fields_are_refused(field):
  with pytest.raises(ValueError, match=f"bags: {next(iter(field))}="):
    bags.Config(**field)


def test_paths_that_name_no_recording(tmp_path):
  with pytest.raises(ValueError, match="path is empty; give an .mcap"):
    streams.specs(bags.Config())
  with pytest.raises(FileNotFoundError, match="bags: .*no file"):
    streams.specs(bags.Config(path=str(tmp_path / "none.mcap")))
  with pytest.raises(ValueError, match="has no .mcap or .db3 file"):
    streams.specs(bags.Config(path=str(tmp_path)))


def foxglove(number):
  """Returns a foxglove.CompressedImage in Protocol Buffers, with a field that nobody knows."""
  data = robots.encode(picture(number, 24, 48))
  parts = [
    b"\x0a\x02\x08\x05",
    b"\x12" + varint(len(data)) + data,
    b"\x1a\x03png",
    b"\xa2\x06\x01x",
  ]
  return b"".join(parts)


def varint(value):
  return bytes([value & 127 | 128, value >> 7]) if value > 127 else bytes([value])


def test_images_of_foxglove_in_protocol_buffers(tmp_path):
  entries = [
    ("/cam", "foxglove.CompressedImage", START + n * 4 * 10**7, foxglove(n), "protobuf")
    for n in range(3)
  ]
  found = ticks(robots.write_mcap(tmp_path / "f.mcap", entries))
  assert [number_of(tick["pixels"]) for tick in found] == [0, 1, 2]


def test_states_are_plain(walk):
  (row,) = streams.open_rows(bags.Config(path=str(walk), **BARS))
  iterator = iter(row)
  next(iterator)
  assert json.loads(json.dumps(iterator.get_state())) == {
    "loop": 0,
    "file": 0,
    "tick": 1,
    "count": 1,
  }
