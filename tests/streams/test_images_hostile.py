"""Folders of images made to hang a reader, to fill memory, or to lead elsewhere: each is damage."""

import os
import struct
import tracemalloc
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from image_folders import encode, write_scannet, write_tum, write_visp
from video_files import picture

from perceiver_stream import streams
from perceiver_stream.files import limits
from perceiver_stream.streams import image_files, images, video
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.opening import open_media


def read(folder, **fields):
  config = images.Config(path=str(folder), height=24, width=32, **fields)
  return list(streams.open_rows(config)[0])


def png_bomb(height=30_000, width=30_000):
  """Returns a PNG that says it has so many pixels; what it holds is one row of them."""
  chunks = [
    (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
    (b"IDAT", zlib.compress(bytes(3 * width + 1))),
    (b"IEND", b""),
  ]
  data = b"\x89PNG\r\n\x1a\n"
  for kind, body in chunks:
    data += struct.pack(">I", len(body)) + kind + body
    data += struct.pack(">I", zlib.crc32(kind + body))
  return data


@pytest.fixture
def thrifty():
  """Fails if Python or numpy ever hold more than 64 MB."""
  tracemalloc.start()
  yield
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 64 * 2**20


@pytest.mark.parametrize(
  "time", ["1e999999999", "1e-999999999", "9" * 5000, "nan", "inf", "1/3", "0x10", "1_000"]
)
def test_times_that_no_clock_gives_are_damage(time, tmp_path):
  folder = write_tum(tmp_path / "tum", 3)
  with (folder / "rgb.txt").open("a") as file:
    file.write(f"{time} rgb/1.png\n")
  with pytest.raises(DamagedError, match="rgb.txt: the line .* is no time in seconds"):
    read(folder)


def test_times_years_apart_are_damage(tmp_path):
  folder = write_tum(tmp_path / "tum", 3)
  with (folder / "rgb.txt").open("a") as file:
    file.write("1e12 rgb/1.png\n")
  with pytest.raises(DamagedError, match=r"rgb.txt: its times go from 1.30503e\+09 to 1e\+12 s"):
    read(folder)


@pytest.mark.parametrize(
  "time", ["1.3050311022e+09", "1305031102.25", "+1305031102.25", "1305031103"]
)
def test_times_as_programs_write_them_are_read(time, tmp_path):
  folder = write_tum(tmp_path / "tum", 3)
  name = (folder / "rgb.txt").read_text().split()[-1]
  with (folder / "rgb.txt").open("a") as file:
    file.write(f"{time} {name}\n")
  assert len(image_files.read_tracks(folder, "tum", Fraction(25))["pixels"].times) == 4


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "rgb/../../x.png", ""])
def test_names_that_lead_out_of_the_folder_are_damage(name, tmp_path):
  folder = write_tum(tmp_path / "tum", 3)
  (tmp_path / "secret.png").write_bytes(encode(picture(1)))
  with (folder / "rgb.txt").open("a") as file:
    file.write(f"1305031102.3 {name}\n")
  with pytest.raises(DamagedError, match="rgb.txt: the line .* it names the file .* not inside"):
    read(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("what", ["color/1.jpg", "depth/1.png", "pose/1.txt"])
def test_pipes_and_devices_are_damage(make, what, tmp_path):
  folder = write_scannet(tmp_path / "scan", 3)
  place = next(p for p in (folder / what.split("/")[0]).iterdir() if p.stem == "1")
  place.unlink()
  make(place)
  with pytest.raises(DamagedError, match="it is not a regular file"):
    read(folder, modalities=images.NAMES)
  ticks = read(folder, modalities=images.NAMES, on_damage="skip")
  name = {"color": "pixels", "depth": "depth", "pose": "camera"}[what.split("/")[0]]
  assert [bool(tick[f"{name}_valid"]) for tick in ticks] == [True, False, True]


def test_a_list_that_is_a_pipe_is_no_list(tmp_path):
  folder = write_tum(tmp_path / "tum", 3)
  (folder / "rgb.txt").unlink()
  os.mkfifo(folder / "rgb.txt")
  with pytest.raises(ValueError, match="is no sequence of layout 'tum'"):
    read(folder, layout="tum")


@pytest.mark.parametrize("name", ["image_0001.png", "depth_image_0001.bin"])
def test_images_of_far_too_many_pixels_are_damage(name, tmp_path, thrifty):
  folder = write_visp(tmp_path / "castel", 2)
  for path in folder.glob("*image_0001.*"):
    if path.suffix != ".bin" and name.endswith(".png"):
      path.unlink()
  data = png_bomb() if name.endswith(".png") else struct.pack("<II", 2**31, 2**31)
  (folder / name).write_bytes(data)
  with pytest.raises(DamagedError, match="cannot be decoded|not those of 2147483648 x"):
    read(folder)


def test_a_thread_of_pixels_is_not_blown_up_to_cover_the_size(tmp_path, thrifty):
  path = tmp_path / "thin.png"
  path.write_bytes(encode(np.zeros((1, 200_000, 3), np.uint8)))
  with pytest.raises(
    DamagedError, match="a frame of 200000 x 1 .* scaled to cover 64 x 64, refused"
  ):
    image_files.read_pixels(path, 64, 64, "centre")
  assert image_files.read_pixels(path, 64, 64, "squash").shape == (64, 64, 3)


def test_videos_of_far_too_many_pixels_are_damage(tmp_path, monkeypatch):
  path = tmp_path / "large.mov"
  with av.open(str(path), "w") as container:
    track = container.add_stream("png", rate=25)
    track.width, track.height, track.pix_fmt = 400, 300, "rgb24"
    frame = av.VideoFrame.from_ndarray(np.zeros((300, 400, 3), np.uint8))
    container.mux([*track.encode(frame), *track.encode(None)])
  with open_media(str(path)) as container:
    assert len(list(container.decode(video=0))) == 1
  monkeypatch.setattr(limits, "MAX_PIXELS", 300 * 400 - 1)
  with pytest.raises(DamagedError, match="large.mov is damaged: a packet of the video track"):
    next(iter(streams.open_rows(video.Config(path=str(path), height=24, width=32))[0]))
