"""A path is a file: nothing in its name or in the file opens the network or another file."""

import os
import pathlib
import socket

import numpy as np
import pytest
from stream_checks import video_row
from video_files import number_of, write_video

from perceiver_stream.reporting import images
from perceiver_stream.streams import probe
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.opening import open_media

NAMES = [
  "2026-11-29T10:00:00.mp4",
  "file:other.mp4",
  "concat:other.mp4|other.mp4",
  "subfile:start:0:end:0.mp4",
  "data:text.mp4",
  "pipe:0.mp4",
  "crypto:other.mp4",
  "frame%03d[1]*?.mp4",
  "-.mp4",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A working folder with `other.mp4`, of 3 pictures, which nobody may read instead."""
  monkeypatch.chdir(tmp_path)
  write_video(tmp_path / "other.mp4", num=3, sound_s=0)
  return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_whatever_its_name_a_file_is_that_file(here, name):
  write_video(here / "plain.mp4", num=7)
  (here / "plain.mp4").rename(here / name)
  assert [number_of(tick["pixels"]) for tick in video_row(name)] == list(range(7))
  assert probe.probe(name).has_sound


def test_a_folder_that_is_called_like_a_protocol_opens_no_socket(here):
  with socket.create_server(("127.0.0.1", 0)) as server:
    server.settimeout(0.2)
    folder = here / "http:" / f"127.0.0.1:{server.getsockname()[1]}"
    folder.mkdir(parents=True)
    write_video(folder / "clip.mp4", num=4)
    assert len(list(video_row("http:/*/clip.mp4"))) == 4
    with pytest.raises(TimeoutError):
      server.accept()


LISTS = {
  "ffconcat.mp4": "ffconcat version 1.0\nfile other.mp4\n",
  "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
  "away.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nADDRESS/a.ts\n#EXT-X-ENDLIST\n",
  "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
  "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
  "subtitles.idx": "# VobSub index file, v7\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_are_not_followed(here, name):
  with socket.create_server(("127.0.0.1", 0)) as server:
    server.settimeout(0.05)
    address = f"http:/{'/'}127.0.0.1:{server.getsockname()[1]}"
    (here / name).write_text(LISTS[name].replace("ADDRESS", address))
    with pytest.raises(DamagedError, match="or a list of other files .*, which are not followed"):
      open_media(name)
    with pytest.raises(TimeoutError):
      server.accept()


@pytest.mark.parametrize("name", ["frame%03d.png", "a[1].png", "x*y.png", "12:30.png"])
def test_a_pattern_of_pictures_is_one_picture(here, name):
  for number in range(3):
    (here / f"frame{number:03d}.png").write_bytes(images.png_bytes(np.zeros((4, 4, 3), np.uint8)))
  picture = np.full((5, 6, 3), 90, np.uint8)
  pathlib.Path(name).write_bytes(images.png_bytes(picture))
  np.testing.assert_array_equal(probe.read_picture(name), picture)


@pytest.mark.parametrize(
  "path", ["https://example.org/x.mp4", "rtsp://camera/1", "camera:0", "-", "fifo"]
)
def test_errors_for_live_sources_name_the_live_stream(here, path):
  os.mkfifo("fifo")
  for ask in (video_row, open_media, probe.probe):
    with pytest.raises(
      FileNotFoundError, match=r"streams\.live\.Config\(source=.*record it to a file"
    ):
      ask(path)
