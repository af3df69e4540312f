"""Records of TFRecord files and TFDS folders come in order, whole, and resume where they were."""

import numpy as np
import pytest
from extras import need
from record_files import movi, write_records, write_tfds
from stream_checks import BARS, assert_restores, assert_same
from video_files import number_of

from perceiver_stream import streams
from perceiver_stream.streams import tfrecord
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.optional import require

need("tensorflow")
tf = require("tensorflow", "tf")

LENGTHS = (5, 4, 6)
CLIPS = [movi(10 * n, length) for n, length in enumerate(LENGTHS)]
NUMBERS = [10 * n + t for n, length in enumerate(LENGTHS) for t in range(length)]


def rows(path, num_rows=1, **fields):
  return streams.open_rows(tfrecord.Config(path=str(path), **BARS | fields), num_rows)


def numbers(ticks):
  return [number_of(tick["pixels"]) for tick in ticks]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
  folder = tmp_path_factory.mktemp("records")
  write_records(tf, folder / "a.tfrecord-00000-of-00002", CLIPS[:2])
  write_records(tf, folder / "a.tfrecord-00001-of-00002", CLIPS[2:])
  return folder


def test_ticks_of_all_records_in_order(records):
  ticks = list(rows(records, modalities=tfrecord.MODALITIES)[0])
  assert numbers(ticks) == NUMBERS
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0, 5, 9]
  np.testing.assert_allclose([t["depth"].max() for t in ticks], np.array(NUMBERS) / 10, rtol=1e-5)
  assert [bool(t["flow_valid"]) for t in ticks] == [i not in (4, 8, 14) for i in range(15)]
  np.testing.assert_allclose(ticks[0]["flow"][0, 0], [-1, 3], atol=1e-6)
  np.testing.assert_allclose([t["timestamp_s"] for t in ticks], np.arange(15) / 12)


def test_every_tick_can_be_gone_on_from(records):
  assert len(assert_restores(rows(records, loops=2, max_ticks=20)[0], ahead=3)) == 20


def test_rows_share_out_records(records):
  assert [numbers(row) for row in rows(records, 2)] == [NUMBERS[:5] + NUMBERS[9:], NUMBERS[5:9]]
  with pytest.raises(ValueError, match="row 3 of 4 has no record"):
    next(iter(rows(records, 4)[3]))


@pytest.mark.parametrize("kind", ["as_sequence", "raw_video"])
def test_other_ways_to_write_a_video(tmp_path, records, kind):
  write_records(tf, tmp_path / "b.tfrecord", CLIPS, **{kind: True})
  for one, other in zip(rows(tmp_path / "*.tfrecord")[0], rows(records)[0], strict=True):
    assert_same(one, other)


def test_a_tfds_folder_gives_the_same(tmp_path):
  need("tensorflow_datasets")
  import tensorflow_datasets as tfds

  clips = [movi(10 * n, 4) for n in range(3)]
  folder = write_tfds(tfds, tmp_path, clips)
  ticks = assert_restores(rows(folder)[0], places=(0, 3, 4, 11))
  order = [numbers(ticks)[i] // 10 for i in (0, 4, 8)]  # TFDS shuffles when it writes
  assert sorted(order) == [0, 1, 2]
  write_records(tf, tmp_path / "same.tfrecord", [clips[n] for n in order])
  for one, other in zip(ticks, rows(tmp_path / "same.tfrecord")[0], strict=True):
    assert_same(one, other)
  with pytest.raises(ValueError, match="split='test' of .*; use one of .'train'."):
    next(iter(rows(folder, split="test")[0]))


def test_damage_is_an_error_with_its_place(tmp_path):
  path = write_records(tf, tmp_path / "a.tfrecord", CLIPS)
  data = path.read_bytes()
  path.write_bytes(data[:-50])
  read = iter(rows(path)[0])
  assert numbers([next(read) for _ in range(9)]) == NUMBERS[:9]
  with pytest.raises(DamagedError, match="a.tfrecord: record 2 is damaged: truncated record"):
    next(read)
  path.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
  with pytest.raises(DamagedError, match="record 0 is damaged: corrupted record"):
    next(iter(rows(path)[0]))
  with tf.io.TFRecordWriter(str(path)) as writer:
    writer.write(b"no example")
  with pytest.raises(DamagedError, match="record 0 is damaged"):
    next(iter(rows(path)[0]))
  write_records(tf, path, [{"audio": np.zeros(3)}])
  with pytest.raises(DamagedError, match=r"there is no feature 'video' among \['audio'\]"):
    next(iter(rows(path)[0]))
  with pytest.raises(FileNotFoundError, match="no file, folder or match"):
    rows(tmp_path / "gone")
