import os

import pytest

from perceiver_stream.utils import atomic


def names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_appears_with_its_name_and_suffix_when_it_is_complete(tmp_path, shared):
  path = tmp_path / "a.mp4"
  path.write_text("old")
  with atomic.replacing(path, shared=shared) as part:
    assert part.parent == tmp_path and part.suffix == ".mp4" and part.name.startswith(".")
    part.write_text("new")
    assert path.read_text() == "old"
  assert path.read_text() == "new" and names(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_after_an_error_everything_is_as_it_was(tmp_path, old, error):
  path = tmp_path / "a"
  if old is not None:
    path.write_bytes(old)
  with pytest.raises(type(error)), atomic.replacing(path) as part:
    part.write_bytes(b"half")
    raise error
  assert names(tmp_path) == ([] if old is None else ["a"])
  assert old is None or path.read_bytes() == old


def test_text_that_cannot_be_encoded_changes_nothing(tmp_path):
  atomic.write_text(tmp_path / "a", "grün")
  with pytest.raises(UnicodeEncodeError):
    atomic.write_text(tmp_path / "a", "new\udc80")
  assert (tmp_path / "a").read_bytes() == "grün".encode()


def test_a_folder_that_is_gone_is_the_error_reported(tmp_path):
  (tmp_path / "run").mkdir()
  with pytest.raises(FileNotFoundError), atomic.replacing(tmp_path / "run" / "a") as part:
    part.write_bytes(b"x")
    part.unlink()
    os.rmdir(tmp_path / "run")


def test_writers_of_one_file_at_a_time_do_not_meet(tmp_path):
  with (
    atomic.replacing(tmp_path / "a", shared=True) as mine,
    pytest.MonkeyPatch.context() as patch,
  ):
    patch.setattr(os, "getpid", lambda: 1)
    with atomic.replacing(tmp_path / "a", shared=True) as other:
      assert mine != other
      other.write_text("other")
    mine.write_text("mine")
  assert (tmp_path / "a").read_text() == "mine" and names(tmp_path) == ["a"]
