"""Recordings that are damaged or made to harm: clear errors, within bounds of memory and time."""

import random
import re
import sqlite3
import struct

import pytest
import robot_files as robots
from extras import need
from stream_checks import BARS, assert_same
from video_files import number_of

from perceiver_stream import streams
from perceiver_stream.files.limits import RefusedError
from perceiver_stream.streams import bags, mcap_file, messages, rosbag_file, unpacking
from perceiver_stream.streams.damage import DamagedError, Ledger

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


def records(data):
  """Returns opcode and end of the records of an MCAP file."""
  found, at = [], len(mcap_file.MAGIC)
  while at + 9 <= len(data):
    opcode, length = struct.unpack_from("<BQ", data, at)
    at += 9 + length
    found.append((opcode, at))
  return found


def test_a_file_cut_off_among_the_indexes_of_a_chunk_has_the_messages_of_all(tmp_path):
  path = robots.write_mcap(tmp_path / "a.mcap", robots.walk(6), chunk=4000)

  def counts():
    file = mcap_file.McapFile(str(path), Ledger("a", "skip"))
    file.close()
    return {topic.name: len(topic.times_ns) for topic in file.topics}

  whole, data = counts(), path.read_bytes()
  found = records(data)
  last = max(n for n, (opcode, _) in enumerate(found) if opcode == 6)
  assert [opcode for opcode, _ in found[last : last + 3]] == [6, 7, 7], "two channels at least"
  path.write_bytes(data[: found[last + 1][1]])
  assert counts() == whole
  empty = (
    struct.pack("<BQ", 7, 6) + data[found[last][1] + 9 :][:2] + bytes(4)
  )  # of the first channel
  path.write_bytes(data[: found[last + 2][1]] + empty + data[found[last + 2][1] :])
  assert counts() == whole


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
MESSAGES = "CREATE TABLE messages(id, topic_id, timestamp, data)"


@pytest.mark.parametrize(
  ("statements", "message"),
  [
    ([TOPICS, f"CREATE VIEW messages AS {FOR_EVER}"], r"no table \['messages'\]"),
    ([TOPICS, "CREATE TABLE messages(id, topic_id, timestamp)", "INSERT INTO messages VALUES(1,2,'x')"],
     "a topic or time that is no number"),
    ([TOPICS, "INSERT INTO topics VALUES(NULL,'/a','b','cdr')", MESSAGES],
     "a.db3 is damaged: the topic '/a' has an id that is no number"),
    ([TOPICS, "INSERT INTO topics VALUES('x','/a','b','cdr')", MESSAGES],
     "a.db3 is damaged: the topic '/a' has an id that is no number"),
    ([TOPICS, "CREATE TABLE messages(id, topic_id, timestamp, data AS (hex(zeroblob(id))))"],
     "column 'data' of its table messages is computed"),
    ([TOPICS, "CREATE TABLE messages(id, data)"], "no such column: topic_id"),
    ([TOPICS, MESSAGES], "no topic has images"),
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


def rewritten(files, path, columns, values):
  """Writes the recording with messages in a table of other columns; returns its database, open."""
  path.write_bytes(files["a.db3"])
  database = sqlite3.connect(path)
  database.execute("ALTER TABLE messages RENAME TO stored")
  database.execute(f"CREATE TABLE messages({columns})")
  database.execute(f"INSERT INTO messages SELECT {values} FROM stored")
  database.execute("DROP TABLE stored")
  database.commit()
  return database


def test_messages_without_a_key_are_found_without_a_search(files, tmp_path):
  (tmp_path / "whole.db3").write_bytes(files["a.db3"])
  path = tmp_path / "a.db3"
  rewritten(files, path, "id, topic_id, timestamp, data", "7, topic_id, timestamp, data").close()
  for one, other in zip(ticks(path), ticks(tmp_path / "whole.db3"), strict=True):
    assert_same(one, other)


def test_messages_are_read_any_number_of_times(files, tmp_path):
  """SQLite counts the steps of all uses of a statement together."""
  (tmp_path / "a.db3").write_bytes(files["a.db3"])
  file = rosbag_file.SqliteFile(str(tmp_path / "a.db3"), Ledger("a", "stop"))
  place = file.topics[0].places[0]
  assert len({file.read(place) for _ in range(3000)}) == 1
  file.close()


def test_a_search_for_a_message_ends_soon(files, tmp_path):
  """A column may have the name of SQLite's key."""
  columns = "rowid, topic_id, timestamp, data"
  database = rewritten(files, tmp_path / "a.db3", columns, "id + 20000, topic_id, timestamp, data")
  database.execute(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) INSERT INTO messages "
    "SELECT i, 999, 0, x'00' FROM n"
  )
  database.execute("CREATE TABLE last AS SELECT * FROM messages WHERE topic_id != 999")
  database.execute("DELETE FROM messages WHERE topic_id != 999")
  database.execute("INSERT INTO messages SELECT * FROM last")
  database.commit()
  database.close()
  with pytest.raises(DamagedError, match="a.db3 is damaged, or no ROS 2 bag: interrupted"):
    ticks(tmp_path / "a.db3")


def test_messages_that_a_crashed_recorder_left_in_its_log_count_as_lost(files, tmp_path, caplog):
  path, log = tmp_path / "a.db3", tmp_path / "a.db3-wal"
  path.write_bytes(files["a.db3"])
  log.touch()
  whole = ticks(path)
  database = sqlite3.connect(path)
  database.execute("PRAGMA journal_mode = WAL")
  database.execute("PRAGMA wal_autocheckpoint = 0")
  database.execute("DELETE FROM messages WHERE id > 5")
  database.commit()
  for file in (path, log):
    (tmp_path / f"crashed_{file.name}").write_bytes(file.read_bytes())
  database.close()
  crashed = tmp_path / "crashed_a.db3"
  remedy = re.escape(f'run: sqlite3 {crashed} "PRAGMA wal_checkpoint(TRUNCATE)"')
  with pytest.raises(
    DamagedError, match=f"{re.escape(str(crashed))}-wal, which its recorder left.*{remedy}"
  ):
    ticks(crashed)
  assert len(ticks(crashed, on_damage="skip")) == len(whole) and "lost 1" in caplog.text
  database = sqlite3.connect(crashed)
  database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
  database.close()
  assert len(ticks(crashed)) < len(whole)


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
