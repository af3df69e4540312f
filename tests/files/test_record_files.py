"""What chunks of ArrayRecord files say that they unpack to is known before they are unpacked."""

import random
import resource
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from perceiver_stream.files import limits
from perceiver_stream.files.record_files import check_chunks


def write(path, records, options="group_size:1,zstd:1"):
  writer = ArrayRecordWriter(str(path), options)
  for record in records:
    writer.write(record)
  writer.close()
  return path


@pytest.mark.parametrize("options", ["group_size:1,zstd:1", "group_size:3,uncompressed"])
@pytest.mark.parametrize("seed", range(4))
def test_any_records_of_the_library_are_followed_to_the_end(tmp_path, options, seed):
  draw = random.Random(seed)
  sizes = [draw.choice([0, 1, draw.randrange(300), draw.randrange(200_000)]) for _ in range(40)]
  records = [np.random.default_rng(seed).bytes(size) for size in sizes]
  check_chunks(write(tmp_path / "a.ticks", records, options), max(sizes))


def test_a_small_file_that_unpacks_to_much_is_refused_and_not_unpacked(tmp_path):
  most = limits.HEADROOM_BYTES
  path = write(tmp_path / "a.ticks", [b"x" * 100, bytes(4 * most)])
  assert path.stat().st_size < 2**18
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(limits.RefusedError, match=f"unpacks to {4 * most} bytes; the most is"):
    check_chunks(path, 100)
  unit = 1 if sys.platform == "darwin" else 1024
  assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < most
  check_chunks(path, 4 * most)


def test_a_file_that_is_cut_or_longer_is_damaged(tmp_path):
  path = write(tmp_path / "a.ticks", [np.random.default_rng(0).bytes(90_000)] * 3)
  data = path.read_bytes()
  for changed in (data[:-1], data[:70_000], data[: 2**16 + 30], data + b"x", data + bytes(100)):
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="a.ticks (is cut off|has .* bytes, but)"):
      check_chunks(path, 90_000)


@pytest.mark.parametrize("seed", range(5))
def test_bytes_of_anything_end_with_an_answer(tmp_path, seed):
  path = tmp_path / "a.ticks"
  path.write_bytes(bytes(64) + np.random.default_rng(seed).bytes(3000))
  with pytest.raises(ValueError, match="a.ticks"):
    check_chunks(path, 10)
