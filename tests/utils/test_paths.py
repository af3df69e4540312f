"""Paths as users type them: `~` is home, a name is a file, whatever characters it has."""

import ast
import os
import pathlib
import re

import numpy as np
import pytest

import perceiver_stream
from perceiver_stream import inference, streams
from perceiver_stream.reporting import flow_files
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.utils.paths import file_url, user_path, why_no_file

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = [
  path
  for folder in ("perceiver_stream", "scripts")
  for path in sorted((ROOT / folder).rglob("*.py"))
  if path.name != "paths.py"
]


@pytest.fixture
def home(tmp_path, monkeypatch):
  """Returns a home folder of its own; the working folder is another one."""
  (tmp_path / "home").mkdir()
  (tmp_path / "here").mkdir()
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.chdir(tmp_path / "here")
  return tmp_path / "home"


@pytest.mark.parametrize(
  ("typed", "meant"),
  [
    ("~", "HOME"),
    ("~/a/b.mp4", "HOME/a/b.mp4"),
    ("a~b", "a~b"),
    ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
    ("~$draft.mp4", "~$draft.mp4"),
    ("x/~", "x/~"),
    ("", "."),
  ],
)
def test_a_leading_tilde_is_home(home, typed, meant):
  assert str(user_path(typed)) == meant.replace("HOME", str(home))
  assert user_path(pathlib.Path(typed)) == user_path(typed)


@pytest.mark.parametrize("name", ["12:30.mp4", "concat:a.mp4", "a/../b.mp4", "http:/x/y.mp4", "-"])
def test_ffmpeg_gets_an_absolute_file_url(home, name):
  url = file_url(name)
  assert url == f"file:{os.getcwd()}/{os.path.normpath(name)}"
  assert file_url(pathlib.Path(name)) == url


@pytest.mark.parametrize(
  ("path", "text"),
  [
    (
      "https://example.org/x.mp4",
      "is an address, and a path is a file: use the live stream, streams.live.Config",
    ),
    ("rtsp://camera/1", "is an address"),
    ("pipe:0", "is an address"),
    ("-", "is standard input"),
    ("/dev/video0", "is a device or a pipe"),
    ("fifo", "is a device or a pipe"),
    ("folder", "is a folder; give one file"),
    ("12:30.mp4", "there is no file '12:30.mp4' .*; check the path"),
    ("C:/x.mp4", "there is no file"),
  ],
)
def test_what_is_no_file_is_called_what_it_is(home, path, text):
  os.mkfifo("fifo")
  os.mkdir("folder")
  assert re.search(text, why_no_file(path))


# Opens addresses, of the schemes that it lists, and no path.
LIVE = "live_sources.py"


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
  found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
  return [call for call in found if ast.unparse(call.func) == name]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_path_goes_through_the_one_place(path):
  tree = ast.parse(path.read_text())
  raw = [c for c in calls(tree, "pathlib.Path") if c.args and "__file__" not in ast.unparse(c)]
  assert not raw, f"{path}:{raw[0].lineno}: use paths.user_path, which knows ~"
  for name in ("os.path.isdir", "os.path.isfile", "cv2.imread", "cv2.VideoCapture", "cv2.imwrite"):
    assert not calls(tree, name), f"{path} uses {name}; use paths.user_path and PyAV"
  for call in calls(tree, "av.open") if path.name != LIVE else ():
    assert ast.unparse(call.args[0]).startswith("file_url("), f"{path}:{call.lineno}: use file_url"


def test_the_library_reads_and_writes_below_home(home):
  with VideoWriter("~/12:30.mp4", rate_hz=25) as movie:
    for i in range(3):
      movie.write_frame(np.full((16, 16, 3), 60 * i, np.uint8))
  assert (home / "12:30.mp4").is_file()
  config = streams.video.Config(path="~/12:30.mp4", height=8, width=8, audio_rate_hz=0)
  assert len(list(streams.open_rows(config)[0])) == 3
  flow = np.ones((4, 5, 2), np.float32)
  flow_files.write_flo("~/a.flo", flow)
  np.testing.assert_array_equal(flow_files.read_flow("~/a.flo"), flow)
  model, params, *_ = inference.untrained("stream_perceiver/nano")
  perceiver_stream.save("~/m.safetensors", model, params)
  perceiver_stream.load("~/m.safetensors")
  assert not list(pathlib.Path().iterdir())
