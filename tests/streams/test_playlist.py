"""The recordings of a path: all kinds of video, images that are one recording, words about the rest."""

import logging

import pytest

from perceiver_stream.streams import image_files, playlist
from perceiver_stream.streams.playlist import ImageFiles, find_recordings, one_recording


def make(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
  return folder


def names(found):
  """Returns recordings as names, images of one recording as a list."""
  name = lambda file: file.rpartition("/")[2]  # noqa: E731
  return [[name(f) for f in s.files] if isinstance(s, ImageFiles) else name(s) for s in found]


@pytest.mark.parametrize("suffix", sorted(playlist.VIDEO_SUFFIXES))
def test_a_folder_gives_every_kind_of_video(tmp_path, suffix):
  make(tmp_path, f"b{suffix.upper()}", "a.mp4", f"c{suffix}")
  assert names(find_recordings(str(tmp_path))) == ["a.mp4", f"b{suffix.upper()}", f"c{suffix}"]


def test_files_of_a_folder_that_are_left_out_are_told_of_once(tmp_path, caplog):
  make(tmp_path, "a.mp4", "a.srt", "b.srt", "cover.jpg", "README", ".hidden")
  (tmp_path / "inside").mkdir()
  with caplog.at_level(logging.WARNING):
    for _ in range(3):
      assert names(find_recordings(str(tmp_path))) == ["a.mp4"]
  (message,) = [record.message for record in caplog.records]
  assert f"4 of the 5 files in {tmp_path} are left out (.srt 2" in message
  assert ".jpg 1" in message and "no suffix 1" in message and "by a glob" in message
  assert names(find_recordings(f"{tmp_path}/*.*"))[0] == "a.mp4"


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, caplog):
  make(tmp_path, "a.mp4", "b.mkv", "c/1.png", "c/2.png")
  with caplog.at_level(logging.WARNING):
    find_recordings(f"{tmp_path}, {tmp_path}/c")
  assert not caplog.records


@pytest.mark.parametrize(
  ("files", "expected"),
  [
    (["00000.jpg", "00001.jpg", "00002.jpg"], [["00000.jpg", "00001.jpg", "00002.jpg"]]),  # DAVIS
    (["9.png", "10.png", "1.png"], [["1.png", "9.png", "10.png"]]),
    (["0000000001.png", "0000000000.png"], [["0000000000.png", "0000000001.png"]]),  # KITTI
    (
      ["a_1.png", "b_1.png", "a_2.png", "b_2.png"],
      [["a_1.png", "a_2.png"], ["b_1.png", "b_2.png"]],
    ),
    (["f1.png", "f2.JPG", "f2.PNG"], [["f1.png", "f2.PNG"], "f2.JPG"]),
    (["cat.jpg", "dog.jpg"], ["cat.jpg", "dog.jpg"]),
    (["IMG_20240101_120000.jpg", "IMG_20240102_090000.jpg"],) * 1
    + ([["IMG_20240101_120000.jpg", "IMG_20240102_090000.jpg"]],),
  ],
)
def test_images_whose_names_differ_in_numbers_are_one_recording(tmp_path, files, expected):
  make(tmp_path, *files)
  for path in (str(tmp_path), f"{tmp_path}/*.*"):
    assert names(find_recordings(path)) == expected
    alone = names(find_recordings(path, image_sequences=False))
    assert sorted(alone) == sorted(files)
  assert set(playlist.find_files(str(tmp_path))) == {str(tmp_path / name) for name in files}


def test_images_of_a_pattern_over_folders_are_a_recording_each(tmp_path):
  make(tmp_path, "bear/00000.jpg", "bear/00001.jpg", "cow/00000.jpg", "cow/00001.jpg", "x.mp4")
  both = [["00000.jpg", "00001.jpg"]] * 2
  assert names(find_recordings(f"{tmp_path}/*/*.jpg")) == both
  assert names(find_recordings(f"{tmp_path}/**/*.*")) == [*both, "x.mp4"]
  assert names(find_recordings(f"{tmp_path}/bear/%05d.jpg")) == both[:1]
  with pytest.raises(
    ValueError, match=r"holds 2 recordings \(.*bear/00000.jpg ... 00001.jpg, .*cow"
  ):
    one_recording(f"{tmp_path}/*/*.jpg")


def test_images_that_are_named_are_alone(tmp_path):
  make(tmp_path, "1.png", "2.png", "3.png")
  parts = [f"{tmp_path}/{n}.png" for n in (2, 1)]
  assert find_recordings(",".join(parts)) == tuple(parts)
  assert one_recording(parts[0]) == parts[0]


def test_images_that_are_no_recording_are_told_of(tmp_path, caplog):
  make(tmp_path, "cat.jpg", "dog.jpg", "1.jpg", "2.jpg")
  with caplog.at_level(logging.WARNING):
    assert names(find_recordings(str(tmp_path))) == [["1.jpg", "2.jpg"], "cat.jpg", "dog.jpg"]
  (message,) = [record.message for record in caplog.records]
  assert "2 images of" in message and "(cat.jpg, dog.jpg, ...)" in message
  assert "each is a recording of its own" in message


def test_commas_in_the_name_of_a_folder(tmp_path):
  make(tmp_path / "a, b", "1.mp4")
  assert names(find_recordings(str(tmp_path / "a, b"))) == ["1.mp4"]


def test_a_folder_without_any_says_how_to_name_more(tmp_path):
  make(tmp_path, "a.dat", "b/1.png")
  with pytest.raises(ValueError, match=r"no video or image among its 1 files; .*\*/\*"):
    find_recordings(str(tmp_path))


def test_missing_numbers_are_counted(tmp_path):
  images = ImageFiles(tuple(f"{tmp_path}/image_{n}.png" for n in (1, 2, 4, 5)))
  assert images.positions() == [0, 1, 3, 4]
  far = ImageFiles(tuple(f"image_{n}.png" for n in (1, 2, 30_000_000)))
  assert far.positions() == [0, 1, 2]
  assert str(far) == "image_1.png ... image_30000000.png"


def test_images_are_what_can_be_decoded():
  assert image_files.CODECS.keys() < playlist.IMAGE_SUFFIXES
  assert not playlist.VIDEO_SUFFIXES & playlist.IMAGE_SUFFIXES
