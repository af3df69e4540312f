"""A photo in tiles is the whole photo, or refused: never one tile of it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from av.stream import Disposition

from perceiver_stream.files import limits
from perceiver_stream.streams import probe
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.tiles import main_grid
from tests.support.heif_files import write_grid
from tests.support.stream_checks import video_row


def photo(height, width):
  """Returns a picture of which every part is another colour."""
  y, x = np.mgrid[:height, :width]
  return np.stack([255 * y // height, 255 * x // width, (x + y) % 200], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(128, 192), (100, 150), (64, 64), (300, 70)], ids=str)
@pytest.mark.parametrize(("turns", "others"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_a_photo_in_tiles_is_whole_and_upright(tmp_path, size, turns, others):
  picture = photo(*size)
  path = write_grid(tmp_path / "a.heic", picture, turns=turns, others=others)
  got = probe.read_picture(path)
  expected = np.rot90(picture, turns)
  assert got.shape == expected.shape
  assert np.abs(got.astype(int) - expected).mean() < 4


def test_a_photo_in_tiles_is_a_recording_of_one_picture(tmp_path):
  path = write_grid(tmp_path / "a.heic", photo(128, 192))
  ticks = list(video_row(path, height=64, width=96, rate_hz=0.0, audio_rate_hz=0))
  assert len(ticks) == 1 and ticks[0]["pixels"].shape == (64, 96, 3)
  assert ticks[0]["pixels"][-1, -1, 0] > 240  # of the last tile


def test_a_mirrored_photo_in_tiles_is_refused(tmp_path):
  path = write_grid(tmp_path / "a.heic", photo(100, 150), mirror=True)
  with pytest.raises(DamagedError, match="is a mirrored photo in tiles, which is not read; save"):
    probe.read_picture(path)


def container(groups: list[str], num: int, size: int = 512) -> Any:
  """Returns something that describes itself as an open file with groups of tiles does."""
  context = SimpleNamespace(width=size, height=size)
  tiles = [
    SimpleNamespace(disposition=Disposition.dependent, codec_context=context, index=i)
    for i in range(num)
  ]
  thumbnail = SimpleNamespace(disposition=Disposition(0), codec_context=context, index=num)
  lines = [
    f"  Stream group #0:{i}[0x31]: Tile Grid: hevc (hvc1), {g}" for i, g in enumerate(groups)
  ]
  text = "\n".join([*lines, "  Stream #0:9[0x32]: Video: hevc, gray, 320x240", ""])
  streams = SimpleNamespace(video=[*tiles, thumbnail])
  return SimpleNamespace(streams=streams, dumps_format=lambda: text)


TURN = "\n    Side data:\n      Display Matrix: rotation of -90.00 degrees"


@pytest.mark.parametrize(
  ("groups", "num", "tiles"),
  [
    (["yuv420p(pc), 1024x600 (default)"], 4, range(4)),
    (["yuv420p, 512x512 [SAR 1:1 DAR 1:1] (default)"], 1, range(1)),
    (["gray, 512x512", "yuv420p, 1500x1024 (default)"], 7, range(1, 7)),
    (["yuv420p, 600x512 (default)" + TURN, "yuv420p, 600x512" + TURN], 4, range(2)),
    (["yuv420p, 600x512"], 2, None),
    ([], 2, None),
    ([], 0, None),
  ],
)
def test_the_tiles_of_the_photo_shown_are_found(groups, num, tiles):
  grid = main_grid(container(groups, num), "a.heic")
  if tiles is None:
    assert grid is None
  else:
    assert grid is not None
    assert [tile.index for tile in grid.tiles] == list(tiles)
    assert grid.turns == (3 if TURN in groups[0] else 0)


@pytest.mark.parametrize(("groups", "num"), [(1, 3), (1, 5), (2, 6), (2, 9)])
def test_tiles_of_which_it_is_not_clear_whose_they_are_are_refused(groups, num):
  described = ["yuv420p, 1024x600 (default)", "yuv420p, 1024x1000"][:groups]
  with pytest.raises(DamagedError, match="a photo in tiles, and which of them belong to it is not"):
    main_grid(container(described, num), "a.heic")


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
