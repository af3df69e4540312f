"""What files may ask for, and which are opened at all."""

import os
import pathlib

import pytest

from perceiver_stream.files import limits


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_opened(make, tmp_path):
  make(tmp_path / "x")
  with pytest.raises(ValueError, match="x refused: it is not a regular file"):
    limits.read_bytes(tmp_path / "x")


def test_a_folder_and_a_missing_file_are_errors(tmp_path):
  with pytest.raises(FileNotFoundError):
    limits.read_bytes(tmp_path / "x")
  with pytest.raises((IsADirectoryError, PermissionError)):
    limits.read_bytes(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_files_are_read_up_to_the_limit(size, tmp_path):
  path = tmp_path / "x"
  path.write_bytes(size * b"a")
  assert limits.read_bytes(path, 100) == limits.read_bytes(str(path)) == size * b"a"
  with pytest.raises(ValueError, match=f"x refused: it has more than {size - 1} bytes"):
    limits.read_bytes(path, size - 1)


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").is_file(), reason="Linux has such files")
def test_files_that_do_not_know_their_size_are_read():
  assert b"VmRSS" in limits.read_bytes("/proc/self/status", 100_000)
  with pytest.raises(ValueError, match="more than 20 bytes"):
    limits.read_bytes("/proc/self/status", 20)


def test_text_and_json(tmp_path):
  path = tmp_path / "x.json"
  path.write_text('{"a": [1, "\u00e9"]}', encoding="utf-8")
  assert limits.read_json(path) == {"a": [1, "\u00e9"]}
  for data, message in [
    (b"\xff", "x.json is not UTF-8 text"),
    (b"{", "x.json is not readable as JSON"),
    (10_000 * b"[", "x.json is not readable as JSON"),
    (b"9" * 5000, "x.json is not readable as JSON"),
    (b"[" + 140_000 * b"[]," + b"1]", "x.json refused: .* hold more than [0-9]+ values"),
    (b"[" + 540_000 * b"1," + b"1]", "x.json refused: .* hold more than [0-9]+ values"),
  ]:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
      limits.read_json(path)
  assert len(limits.parse_json("[" + 540_000 * "1," + "1]", "x", most=10**6)) == 540_001


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "..", "a\0b", "..\\a"])
def test_names_that_lead_out_of_a_folder_are_refused(name, tmp_path):
  with pytest.raises(ValueError, match="refused: it names the file"):
    limits.inside(tmp_path, name)


@pytest.mark.parametrize(("name", "size"), [("n" * 256, 256), ("a/" + "é" * 128 + "/b", 256)])
def test_names_that_are_too_long_for_a_file_are_refused(name, size, tmp_path):
  with pytest.raises(limits.RefusedError, match=f"a name of {size} bytes"):
    limits.inside(tmp_path, name)
  assert limits.inside(tmp_path, name[:129])


@pytest.mark.parametrize("name", ["a", "a/b.png", "a..b", "..a", "./a"])
def test_names_inside_a_folder_are_taken(name, tmp_path):
  assert limits.inside(tmp_path, name) == tmp_path / name


def test_budgets_grow_with_the_file():
  assert limits.max_unpacked_bytes(0) == 2**26
  assert limits.max_unpacked_bytes(10**9) == 2**26 + 3 * 10**9
  assert limits.max_unpacked_bytes(10**12) == limits.MAX_FILE_BYTES
  limits.check_image_size(9000, 12_000, "photo")
  with pytest.raises(ValueError, match="photo refused: an image of 30000 x 30000 pixels"):
    limits.check_image_size(30_000, 30_000, "photo")
