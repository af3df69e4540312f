import io
import zipfile

import numpy as np
import pytest

from perceiver_stream.reporting import run_files


def write(run_dir, strip, window, first, hop=2):
  """Writes a window of `hop` ticks, and one more before them, counted from `first`."""
  path = run_files.strip_path(run_dir, strip, window)
  path.parent.mkdir(exist_ok=True)
  ticks = np.arange(first - 1, first + hop)
  arrays = {"x": ticks, "x@1": 10 * ticks[1:], "x@1/model": 100 * ticks[1:]}
  np.savez(path, **arrays)
  return path


def test_windows_of_a_strip_are_put_together_and_their_overlap_left_out(tmp_path):
  for window in (7, 5, 6):
    write(tmp_path, 7, window, 2 * window)
  (strip,) = run_files.find_strips(tmp_path)
  arrays = run_files.read_strip(strip.paths)
  assert strip.number == 7 and arrays["x"].tolist() == list(range(9, 16))
  assert arrays["x@1"].tolist() == [10 * t for t in range(10, 16)]
  assert arrays["x@1/model"].tolist() == [100 * t for t in range(10, 16)]


def test_strips_are_found_in_order_and_nothing_else_is(tmp_path):
  write(tmp_path, 100, 100, 1)
  write(tmp_path, 20, 19, 1)
  folder = tmp_path / run_files.STRIPS
  for name in (".part-00000020-00000020.npz", "x.npz", "²0000000.npz", "1" * 40 + ".npz"):
    (folder / name).write_bytes(b"")
  (folder / "00000030.npz").mkdir()
  (folder / "00000010.npz").write_bytes(b"of an earlier version")
  assert [strip.number for strip in run_files.find_strips(tmp_path)] == [10, 20, 100]
  assert run_files.find_strips(tmp_path / "nowhere") == []


def bomb(path):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as f:
    for _ in range(300):
      f.write(bytes(2**20))


def objects(path):
  np.savez(path, x=np.array([{}], object))


def locked(path):
  buffer = io.BytesIO()
  np.savez(buffer, x=np.ones(3))
  data = bytearray(buffer.getvalue())
  for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
    data[data.index(mark) + offset] |= 1  # "encrypted"
  path.write_bytes(data)


@pytest.mark.parametrize(
  "make", [bomb, objects, locked, lambda path: path.write_bytes(b"PK\3\4"), lambda path: None]
)
def test_what_is_no_strip_is_named_before_it_takes_memory(tmp_path, make):
  make(tmp_path / "00000001.npz")
  with pytest.raises(ValueError, match="00000001.npz cannot be read"):
    run_files.read_strip([tmp_path / "00000001.npz"])
