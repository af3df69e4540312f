"""A photo in tiles is the whole photo, or refused: never one tile of it."""

import itertools
import struct

import numpy as np
import pytest

from perceiver_stream.files import limits
from perceiver_stream.streams import probe
from perceiver_stream.streams.damage import DamagedError
from tests.support import ffmpeg_program
from tests.support.heif_files import write_grid
from tests.support.stream_checks import video_row


def photo(height, width):
  """Returns a picture of which every part is another colour."""
  y, x = np.mgrid[:height, :width]
  return np.stack([255 * y // height, 255 * x // width, (x + y) % 200], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(128, 192), (100, 150), (64, 64), (300, 70)], ids=str)
@pytest.mark.parametrize(("turns", "others"), [(0, 0), (1, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_photo_in_tiles_is_whole_and_upright(tmp_path, size, turns, others, mirror):
  picture = photo(*size)
  path = write_grid(tmp_path / "a.heic", picture, turns=turns, others=others, mirror=mirror)
  expected = np.rot90(picture, turns)[:, :: -1 if mirror else 1]
  got = probe.read_picture(path)
  assert got.shape == expected.shape
  assert np.abs(got.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(("turns", "mirror"), list(itertools.product(range(4), [False, True])))
def test_a_photo_in_tiles_is_that_of_the_program(tmp_path, turns, mirror):
  path = tmp_path / "a.heic"
  write_grid(path, photo(100, 150), turns=turns, mirror=mirror)
  ffmpeg_program.run("-i", path, "-frames:v", "1", "-update", "1", tmp_path / "a.png")
  expected = probe.read_picture(str(tmp_path / "a.png"))
  np.testing.assert_array_equal(probe.read_picture(str(path)), expected)


def test_a_clean_aperture_is_cut_out_of_the_whole_photo(tmp_path):
  picture = photo(100, 150)
  cut = write_grid(tmp_path / "a.heic", picture, turns=1, aperture=(90, 1, 60, 1, 5, 1, -10, 1))
  expected = np.rot90(picture[10:70, 35:125])
  got = probe.read_picture(cut)
  assert got.shape == expected.shape
  assert np.abs(got.astype(int) - expected).mean() < 4


def test_a_photo_in_tiles_is_a_recording_of_one_picture(tmp_path):
  path = write_grid(tmp_path / "a.heic", photo(128, 192))
  ticks = list(video_row(path, height=64, width=96, rate_hz=0.0, audio_rate_hz=0))
  assert len(ticks) == 1 and ticks[0]["pixels"].shape == (64, 96, 3)
  assert ticks[0]["pixels"][-1, -1, 0] > 240  # of the last tile


@pytest.mark.parametrize(
  ("there", "instead"),
  [
    (b"dimg", b"none"),
    (b"ispe", b"none"),
    (b"ipma", b"none"),
  ],
)
def test_a_photo_in_tiles_without_its_description_is_no_single_tile(tmp_path, there, instead):
  path = tmp_path / "a.heic"
  write_grid(path, photo(128, 192))
  path.write_bytes(path.read_bytes().replace(there, instead))
  with pytest.raises(DamagedError):
    probe.read_picture(str(path))


def test_images_laid_over_one_another_are_no_grid(tmp_path):
  path = tmp_path / "a.heic"
  write_grid(path, photo(128, 192))
  size, twice = (struct.pack(">II", *wh) for wh in ((192, 128), (192, 256)))
  path.write_bytes(path.read_bytes().replace(size, twice))
  with pytest.raises(DamagedError, match="6 are no grid of 192 x 256 pixels; save it as JPEG"):
    probe.read_picture(str(path))


def test_a_photo_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
  path = write_grid(tmp_path / "a.heic", photo(128, 192))
  monkeypatch.setattr(limits, "MAX_PIXELS", 128 * 192 - 1)
  with pytest.raises(DamagedError, match="an image of 128 x 192 pixels; the most is 24575"):
    probe.read_picture(path)


def test_a_tile_that_is_damaged_is_said(tmp_path):
  path = tmp_path / "a.heic"
  write_grid(path, photo(128, 192))
  data = bytearray(path.read_bytes())
  at = data.index(b"mdat") + 4
  data[at : at + 400] = bytes(400)
  path.write_bytes(bytes(data))
  with pytest.raises(DamagedError, match="a photo in tiles, cannot be decoded"):
    probe.read_picture(str(path))
