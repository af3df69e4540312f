"""Recordings that are damaged or made to harm: clear errors, within bounds of memory and time."""

import random
import sqlite3
import struct

import pytest
import robot_files as robots
from extras import need
from stream_checks import BARS
from video_files import number_of

from perceiver_stream import streams
from perceiver_stream.files.limits import RefusedError
from perceiver_stream.streams import bags, messages, unpacking
from perceiver_stream.streams.damage import DamagedError

need("mcap", "rosbags", "lz4", "zstandard")
START = robots.START_NS


def ticks(path, **fields):
  (row,) = streams.open_rows(bags.Config(path=str(path), **BARS | fields))
  return list(row)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Bytes of the same recording in MCAP and in SQLite."""
  folder = tmp_path_factory.mktemp("files")
  walk = robots.walk(6)
  robots.write_bag(folder / "bag", walk)
  (database,) = (folder / "bag").glob("*.db3")
  mcap = robots.write_mcap(folder / "a.mcap", walk, packing="LZ4", chunk=500)
  return {"a.mcap": mcap.read_bytes(), "a.db3": database.read_bytes()}


@pytest.mark.parametrize("on_damage", ["stop", "skip"])
@pytest.mark.parametrize("name", ["a.mcap", "a.db3"])
def test_any_damage_is_an_error_of_the_library_or_fewer_ticks(files, name, on_damage, tmp_path):
  dice, whole = random.Random(7), files[name]
  for number in range(24):
    data = bytearray(whole[: dice.randrange(len(whole)) if number % 2 else len(whole)])
    for _ in range(number % 5 * 3):
      if data:
        data[dice.randrange(len(data))] = dice.randrange(256)
    (tmp_path / name).write_bytes(data)
    try:
      assert len(ticks(tmp_path / name, on_damage=on_damage, max_ticks=20)) <= 20
    except ValueError as error:
      assert len(str(error)) > 20


def test_a_file_cut_off_is_read_up_to_there(files, tmp_path):
  data = files["a.mcap"]
  (tmp_path / "cut.mcap").write_bytes(data[: len(data) * 2 // 5])
  with pytest.raises(DamagedError, match="cut off within the record.*on_damage='skip'"):
    ticks(tmp_path / "cut.mcap")
  found = ticks(tmp_path / "cut.mcap", on_damage="skip", topics=("pixels",))
  assert [number_of(tick["pixels"]) for tick in found] == [*range(len(found))] and found


def chunk(path, packed, size, packing=b"zstd"):
  """Writes an MCAP file of one chunk that states `size` bytes."""
  head = struct.pack("<QQQII", 0, 0, size, 0, len(packing)) + packing
  body = head + struct.pack("<Q", len(packed)) + packed
  magic = b"\x89MCAP0\r\n"
  path.write_bytes(magic + struct.pack("<BQ", 6, len(body)) + body + struct.pack("<BQ", 15, 0))
  return path


@pytest.mark.parametrize("packing", ["zstd", "lz4", "bz2"])
def test_bombs_are_unpacked_no_further_than_they_state(packing):
  import bz2

  import lz4.frame
  import zstandard

  pack = {"zstd": zstandard.compress, "lz4": lz4.frame.compress, "bz2": bz2.compress}[packing]
  bomb = pack(bytes(2**22))
  with pytest.raises(DamagedError, match="holds more than 1000 bytes and states 1000"):
    unpacking.unpack(bomb, packing, 1000, "x")
  with pytest.raises(DamagedError, match="holds 4194304 bytes and states 5000000"):
    unpacking.unpack(bomb, packing, 5_000_000, "x")
  with pytest.raises(RefusedError, match="states 1073741824 bytes; the most is"):
    unpacking.unpack(bomb, packing, 2**30, "x")
  with pytest.raises(DamagedError, match="cannot be unpacked|holds 0 bytes"):
    unpacking.unpack(b"no " + bomb, packing, 2**22, "x")
  assert unpacking.unpack(bomb, packing, 2**22, "x") == bytes(2**22)


def test_chunks_with_wrong_sizes(tmp_path):
  with pytest.raises(RefusedError, match="states 9999999999 bytes"):
    ticks(chunk(tmp_path / "a.mcap", b"abc", 9_999_999_999))
  with pytest.raises(DamagedError, match="packed with 'rar'"):
    ticks(chunk(tmp_path / "a.mcap", b"abc", 10, b"rar"))
  path = chunk(tmp_path / "a.mcap", b"abc", 10)
  data = bytearray(path.read_bytes())
  data[53:61] = struct.pack("<Q", 2**40)  # the length of the packed bytes
  path.write_bytes(data)
  with pytest.raises(DamagedError, match="states 1099511627776 bytes in a record of"):
    ticks(path)


@pytest.mark.parametrize(
  ("time_ns", "message"),
  [
    (2**63 + 5, "a time that no clock gives"),
    (5, "times of its messages go from 5e-09 to .*no rec"),
  ],
)
def test_absurd_times(tmp_path, time_ns, message):
  entries = robots.walk(2)
  entries.append(("/camera", robots.IMAGE, time_ns, robots.image(9)))
  with pytest.raises(DamagedError, match=message):
    ticks(robots.write_mcap(tmp_path / "a.mcap", entries))


def png(height, width):
  data = robots.encode(robots.picture(0, 24, 48))
  return data[:16] + struct.pack(">II", width, height) + data[24:]


@pytest.mark.parametrize(
  ("kind", "make", "message"),
  [
    (robots.IMAGE, lambda: robots.make(robots.IMAGE, header=robots.header(), format="png",
      data=robots.bytes_of(png(60_000, 60_000))), "message 0 of /a: the image .* cannot be decoded"),
    (robots.RAW, lambda: huge(), "an image of 100000 x 100000 pixels; the most is"),
    (robots.RAW, lambda: huge(height=30), r"states 30 x 48 pixels \(mono8\) in rows of 48 bytes"),
    (robots.RAW, lambda: huge(height=24, encoding="bayer_x"), "encoding is 'bayer_x', expected one"),
    (robots.IMAGE, lambda: robots.make(robots.IMAGE, header=robots.header(), format="tiff",
      data=robots.bytes_of(b"II*\0")), "format is 'tiff', expected JPEG, PNG or WebP"),
  ],
)  # fmt: skip
def test_images_with_wrong_headers(tmp_path, kind, make, message):
  path = robots.write_mcap(tmp_path / "a.mcap", [("/a", kind, START, make())])
  with pytest.raises(ValueError, match=message):
    ticks(path, topics=("pixels=/a",))
  (tick,) = ticks(path, topics=("pixels=/a",), on_damage="skip")
  assert not tick["pixels"].any() and not tick["pixels_valid"]


def huge(height=100_000, encoding="mono8"):
  message = robots.raw(robots.picture(3, 24, 48)[..., 0], encoding)
  message.height = height
  message.width = height if height > 1000 else 48
  return message


def test_a_joint_state_with_too_many_names():
  data = b"\0\1\0\0" + bytes(8) + struct.pack("<I", 0) + struct.pack("<I", 2**31)
  with pytest.raises(DamagedError, match="it has 2147483648 joints"):
    messages.decode(data, messages.JOINTS, "cdr")
  with pytest.raises(DamagedError, match="starts with '07000000', expected a CDR header"):
    messages.decode(b"\7\0\0\0", messages.JOINTS, "cdr")
  with pytest.raises(DamagedError, match="a value of 4294967295 bytes starts 0 bytes before"):
    messages.decode(b"\0\1\0\0" + bytes(8) + b"\xff" * 4, messages.IMU, "cdr")


@pytest.mark.parametrize(
  "data", [b"\x12\xff\xff\xff\xff\x7fab", b"\x13", b"\x80" * 12, b"\x12", b"\x10\x05" * 300]
)
def test_protocol_buffers_that_are_none(data):
  with pytest.raises(DamagedError):
    messages.decode(data, "foxglove_msgs/CompressedImage", "protobuf")


FOR_EVER = (
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, 1 AS topic_id, i AS "
  "timestamp, x'00' AS data FROM n"
)
TOPICS = "CREATE TABLE topics(id INTEGER, name TEXT, type TEXT, serialization_format TEXT)"


@pytest.mark.parametrize(
  ("statements", "message"),
  [
    ([TOPICS, f"CREATE VIEW messages AS {FOR_EVER}"], r"no table \['messages'\]"),
    ([TOPICS, "CREATE TABLE messages(id, topic_id, timestamp)", "INSERT INTO messages VALUES(1,2,'x')"],
     "a topic or time that is no number"),
    ([TOPICS, "CREATE TABLE messages(id, data)"], "no such column: topic_id"),
    ([TOPICS, "CREATE TABLE messages(id, topic_id, timestamp, data)"], "no topic has images"),
  ],
)  # fmt: skip
def test_databases_that_are_no_bags(tmp_path, statements, message):
  database = sqlite3.connect(tmp_path / "a.db3")
  for statement in statements:
    database.execute(statement)
  database.commit()
  database.close()
  with pytest.raises(ValueError, match=message):
    ticks(tmp_path / "a.db3")


def test_other_files(tmp_path):
  (tmp_path / "a.mcap").write_bytes(b"(\xb5/\xfd packed")
  with pytest.raises(DamagedError, match="no MCAP file and no SQLite.*Unpack a bag"):
    ticks(tmp_path / "a.mcap")


def test_names_of_any_length_are_refused(tmp_path):
  entries = [("/" + "a" * 5000, robots.TEXT, START, robots.make(robots.TEXT, data=""))]
  with pytest.raises(RefusedError, match="a name of 5001 characters; the most is 4096"):
    ticks(robots.write_mcap(tmp_path / "a.mcap", entries))


def test_a_recording_is_a_video_of_its_first_camera(tmp_path):
  path = robots.write_mcap(tmp_path / "a.mcap", robots.walk(5))
  config = streams.video.Config(path=str(path), audio_rate_hz=8000, **BARS)
  found = list(streams.open_rows(config)[0])
  assert [number_of(tick["pixels"]) for tick in found] == [*range(5)]
  assert set(streams.specs(config)) == {"pixels", "audio"} and not found[1]["audio_valid"]
  assert len(list(streams.open_rows(streams.video.Config(path=str(tmp_path), **BARS))[0])) == 5
  with pytest.raises(ValueError, match="a recording of a robot, .* set a rate_hz"):
    streams.open_rows(streams.video.Config(path=str(path), rate_hz=0.0, audio_rate_hz=0))
