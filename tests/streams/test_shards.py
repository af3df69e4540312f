"""Shards give back what was written, to the bit; what is not whole is an error or made again."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from stream_checks import BARS, assert_same
from video_files import number_of, write_video

from perceiver_stream import streams
from perceiver_stream.files import limits
from perceiver_stream.streams import live, shard_files, shard_writer, shards, synthetic, video
from perceiver_stream.streams.shard_files import Layout, Shard, ShardError
from perceiver_stream.types import ModalitySpec

WORLD = synthetic.Config(height=16, width=24, max_ticks=23, ticks_per_recording=10, num_things=2)


@pytest.fixture
def folder(tmp_path):
  """Shards of three recordings, cut in their midst."""
  shard_writer.write(WORLD, str(tmp_path / "a"), shard_ticks=8)
  return tmp_path / "a"


def rows(folder, num_rows=1, **fields):
  return streams.open_rows(shards.Config(path=str(folder), **fields), num_rows)


def digest(folder):
  """Returns a hash of all ticks files, by name."""
  return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.ticks")}


def test_ticks_come_back_to_the_bit(folder):
  original = list(streams.open_rows(WORLD)[0])
  stored = list(rows(folder)[0])
  assert len(stored) == len(original) == 23
  for one, other in zip(stored, original, strict=True):
    assert_same(one, other)
  assert streams.specs(shards.Config(path=str(folder))) == streams.specs(WORLD)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64", "bool"])
def test_every_kind_of_array_survives(dtype):
  rng = np.random.default_rng(0)
  shapes = {"a": (5, 7, 3), "b": (6,), "c": (), "d": (4, 0), "e": (3, 2)}
  specs = {name: ModalitySpec(shape=shape, dtype=dtype) for name, shape in shapes.items()}
  tick = {}
  for name, shape in shapes.items():
    size = (*shape, np.dtype(dtype).itemsize)
    raw = rng.integers(0, 2 if dtype == "bool" else 256, size, np.uint8)
    tick[name] = raw.view(dtype)[..., 0]  # NaN and infinity too
    tick[f"{name}_valid"] = np.bool_(rng.integers(2))
  layout = Layout(specs)
  record = layout.encode(tick | {"is_first": np.True_})
  assert len(record) == layout.num_bytes
  values, is_first = layout.decode(record)
  assert is_first
  for name, (array, valid) in values.items():
    assert (array.tobytes(), array.dtype) == (tick[name].tobytes(), tick[name].dtype)
    assert valid == tick[f"{name}_valid"]


def test_a_tick_that_is_not_what_specs_say_is_refused():
  layout = Layout({"depth": ModalitySpec(shape=(2, 3))})
  tick = {"depth": np.zeros((2, 4), np.float32), "depth_valid": True, "is_first": True}
  with pytest.raises(ValueError, match=r"'depth' is float32 \(2, 4\), expected float32 \(2, 3\)"):
    layout.encode(tick)


def test_videos_are_a_part_each_in_order_by_any_number_of_processes(tmp_path):
  for number, length in enumerate((14, 9, 17)):
    write_video(tmp_path / f"{number}.mp4", num=length)
  config = video.Config(path=str(tmp_path), **BARS)
  index = shard_writer.write(config, str(tmp_path / "s"), shard_ticks=6, processes=2)
  assert [s.file for s in index.shards][:4] == [
    f"part-{part:05d}-{n:05d}.ticks" for part, n in ((0, 0), (0, 1), (0, 2), (1, 0))
  ]
  whole = list(streams.open_rows(config)[0])
  for one, other in zip(rows(tmp_path / "s")[0], whole, strict=True):
    assert_same(one, other)
  assert [number_of(tick["pixels"]) for tick in whole[14:17]] == [0, 1, 2]
  shard_writer.write(config, str(tmp_path / "t"), shard_ticks=6)
  assert digest(tmp_path / "s") == digest(tmp_path / "t")


@pytest.mark.parametrize("num_rows", [1, 2, 3])
def test_rows_share_out_whole_recordings(folder, num_rows):
  found = [list(row) for row in rows(folder, num_rows)]
  assert all(row[0]["is_first"] and row[0]["timestamp_s"] == 0 for row in found)
  pixels = [tick["pixels"] for row in found for tick in row]
  for one, tick in zip(pixels, streams.open_rows(WORLD)[0], strict=True):
    np.testing.assert_array_equal(one, tick["pixels"])


def test_rows_are_about_equally_long():
  rng = np.random.default_rng(1)
  for _ in range(50):
    lengths = rng.integers(1, 30, rng.integers(4, 20))
    found = [Shard("", int(n), 0, (0,), {}) for n in lengths]
    shares = [shards.share(found, row, 4) for row in range(4)]
    assert [s.start for s in shares[1:]] == [s.stop for s in shares[:-1]]
    assert shares[0].start == 0 and shares[-1].stop == lengths.sum()
    assert all(len(s) for s in shares)
    assert max(map(len, shares)) <= lengths.sum() / 4 + 2 * lengths.max()


def test_more_rows_than_recordings_are_refused(folder):
  with pytest.raises(ValueError, match="4 rows need at least as many recordings, but there are 3"):
    rows(folder, 4)


def test_loops_start_again_and_time_runs_on(folder):
  ticks = list(rows(folder, loops=2)[0])
  assert len(ticks) == 46 and ticks[23]["is_first"]
  np.testing.assert_array_equal(ticks[23]["pixels"], ticks[0]["pixels"])
  np.testing.assert_allclose([t["timestamp_s"] for t in ticks], np.arange(46) / 25)


def test_rates_are_those_stored(folder):
  assert len(list(rows(folder, rate_hz=25.0, audio_rate_hz=16000, max_ticks=3)[0])) == 3
  with pytest.raises(ValueError, match="rate_hz=12.5, but .* has 25.0; leave it 0"):
    rows(folder, rate_hz=12.5)
  with pytest.raises(ValueError, match="audio_rate_hz=8000, but .* has 16000.0"):
    rows(folder, audio_rate_hz=8000)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_that_is_not_whole_is_reported_then_made_again(folder, damage, caplog):
  before, path = digest(folder), folder / "part-00000-00001.ticks"
  if damage == "cut":
    os.truncate(path, path.stat().st_size // 2)
  else:
    path.unlink()
  with pytest.raises(ShardError, match="00001.ticks is missing or does not have its .* again"):
    rows(folder)
  shard_writer.write(WORLD, str(folder), shard_ticks=8)
  assert "is not whole; making it again" in caplog.text
  assert digest(folder) == before


def test_a_changed_byte_is_an_error_not_another_tick(folder):
  original = list(rows(folder)[0])
  path = folder / "part-00000-00001.ticks"
  data = path.read_bytes()
  refused = 0
  for place in np.random.default_rng(2).integers(0, len(data), 40):
    changed = bytearray(data)
    changed[place] ^= 16
    path.write_bytes(changed)
    read = iter(rows(folder)[0])
    try:
      for expected in original:
        assert_same(next(read), expected)  # a byte between records may not matter
    except ShardError as error:
      assert "00001.ticks" in str(error)
      refused += 1
    read.close()
  assert refused > 5


def test_a_shard_that_unpacks_to_far_more_than_its_ticks_is_refused(folder):
  path = folder / "part-00000-00001.ticks"
  writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
  for _ in range(8):
    writer.write(bytes(2 * limits.HEADROOM_BYTES))
  writer.close()
  index = json.loads((folder / "index.json").read_text())
  index["shards"][1]["num_bytes"] = path.stat().st_size
  (folder / "index.json").write_text(json.dumps(index))
  with pytest.raises(ShardError, match="00001.ticks is damaged at tick 0 .* unpacks to 134217728"):
    list(rows(folder)[0])


def test_a_shard_of_another_count_is_refused(folder):
  index = json.loads((folder / "index.json").read_text())
  index["shards"][1]["ticks"] -= 1
  (folder / "index.json").write_text(json.dumps(index))
  with pytest.raises(ShardError, match="has 8 ticks, expected 7"):
    list(rows(folder)[0])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "specs": 3}'])
def test_an_index_that_is_none_is_refused(folder, text):
  (folder / "index.json").write_text(text)
  with pytest.raises(ShardError, match="index.json (is no index|has format 2, expected 1)"):
    rows(folder)


@pytest.mark.parametrize(
  ("place", "value"),
  [
    (("shards", 0, "ticks"), odd) for odd in (-5, 0, 1.5, True, None, "8", 2**60)
  ]
  + [(("shards", 0, "num_bytes"), odd) for odd in (-1, 0.5, None)]
  + [(("shards", 0, "file"), odd) for odd in ("../a.ticks", "/dev/zero", "", None, 3)]
  + [(("shards", 0, "firsts"), odd) for odd in ([-1], [8], [3, 1], [1, 1], [0.5], [True], 3)]
  + [(("shards", 0, "state"), 3), (("shards", 0), 3), (("shards",), {"a": 1})]
  + [(("rate_hz",), odd) for odd in (-1, "x", None, 1e300)]
  + [(("source",), 3), (("specs", "pixels"), 3), (("specs", "pixels", "units"), 3)]
  + [(("specs", "pixels", "shape"), odd) for odd in (3, [-1], [2**20, 2**20], [1.5], "x")]
  + [(("specs", "pixels", "dtype"), odd) for odd in ("O", "S8", "M8", 3, "complex64")],
)  # fmt: skip
def test_an_index_of_numbers_out_of_range_is_refused(folder, place, value):
  index = inner = json.loads((folder / "index.json").read_text())
  for name in place[:-1]:
    inner = inner[name]
  inner[place[-1]] = value
  (folder / "index.json").write_text(json.dumps(index))
  with pytest.raises(ShardError, match="index.json is no index of shards"):
    rows(folder)


def test_what_is_not_there_or_not_finished_is_said(tmp_path, folder):
  with pytest.raises(ValueError, match="path is empty"):
    streams.specs(shards.Config())
  with pytest.raises(FileNotFoundError, match="there is no .*index.json; make shards with"):
    rows(tmp_path / "nowhere")
  index = json.loads((folder / "index.json").read_text())
  (folder / "index.json").write_text(json.dumps(index | {"shards": []}))
  with pytest.raises(ShardError, match="is not finished; run perceiver-stream shards"):
    rows(folder)


def test_states_of_other_shards_are_refused(folder):
  state = {"loop": 0, "tick": 5, "count": 5, "ticks": 22}
  with pytest.raises(ValueError, match="at tick 5 of 22, but the row has 23 ticks"):
    iter(rows(folder)[0]).set_state(state)


@pytest.mark.parametrize("fields", [{"loops": 0}, {"max_ticks": -1}, {"audio_rate_hz": -1}])
def test_wrong_fields_are_refused(fields):
  with pytest.raises(ValueError, match=f"{next(iter(fields))}="):
    shards.Config(path="a", **fields)


def test_an_index_has_no_credentials(tmp_path):
  begin = lambda source: shard_writer._begin(  # noqa: E731
    live.Config(source=source, max_ticks=4), tmp_path, num_parts=1, shard_ticks=4
  )
  for _ in range(2):  # the second continues the first
    begin("rtsp://me:secret@camera/1")
  text = (tmp_path / shard_files.INDEX).read_text()
  assert "rtsp://***@camera/1" in text and "secret" not in text
  with pytest.raises(ValueError, match=r"shards of another stream .*//[*]{3}@door") as error:
    begin("rtsp://me:secret@door/1")
  assert "secret" not in str(error.value)


def test_endless_streams_and_other_streams_are_refused(folder):
  with pytest.raises(ValueError, match="has no end; set its max_ticks"):
    shard_writer.write(dataclasses.replace(WORLD, max_ticks=0), str(folder))
  with pytest.raises(ValueError, match="has shards of another stream"):
    shard_writer.write(dataclasses.replace(WORLD, seed=1), str(folder), shard_ticks=8)
  with pytest.raises(ValueError, match="shard_ticks=0; use at least 1"):
    shard_writer.write(WORLD, str(folder), shard_ticks=0)


def test_one_bad_video_does_not_stop_the_others(tmp_path, caplog):
  write_video(tmp_path / "1.mp4", num=6)
  (tmp_path / "2.mp4").write_text("no video")
  write_video(tmp_path / "3.mp4", num=5)
  config = video.Config(path=str(tmp_path), **BARS)
  with pytest.raises(ShardError, match="part 1: .*2.mp4 .* cannot be opened as video"):
    shard_writer.write(config, str(tmp_path / "s"))
  with pytest.raises(ShardError, match="not finished"):
    rows(tmp_path / "s")
  skipping = dataclasses.replace(config, on_damage="skip")
  index = shard_writer.write(skipping, str(tmp_path / "t"))
  assert sum(shard.ticks for shard in index.shards) == 11
  assert "Continuing without it" in caplog.text


KILLED = """
from perceiver_stream.streams import shard_writer, synthetic
shard_writer.write(synthetic.Config(height=64, width=64, max_ticks=400), {folder!r}, shard_ticks=20)
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_shards(tmp_path):
  folder = tmp_path / "a"
  command = [sys.executable, "-c", KILLED.format(folder=str(folder))]
  process = subprocess.Popen(command)
  while len(list(folder.glob("part-*.ticks"))) < 3 and process.poll() is None:
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  kept = {p.name: p.stat().st_ino for p in folder.glob("part-*.ticks")}
  subprocess.run(command, check=True)
  config = synthetic.Config(height=64, width=64, max_ticks=400)
  shard_writer.write(config, str(tmp_path / "b"), shard_ticks=20)
  assert digest(folder) == digest(tmp_path / "b")
  assert not list(folder.glob("*.part")) + list(folder.glob(".part*"))
  stayed = sum((folder / name).stat().st_ino == inode for name, inode in kept.items())
  assert stayed >= len(kept) - 1 > 0, "finished shards are kept"
