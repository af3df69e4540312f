"""Margins that a container states are read from the file, and from nothing else."""

import io
import pathlib
import struct

import numpy as np
import pytest

from perceiver_stream.streams import heif, margins, probe
from perceiver_stream.streams.boxes import whole
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.margins import WHOLE, Margins
from tests.support.heif_files import write_grid
from tests.support.stream_checks import video_row
from tests.support.video_files import write_video


@pytest.mark.parametrize(
  ("aperture", "expected"),
  [
    ((96, 1, 48, 1, 0, 1, 0, 1), WHOLE),
    ((80, 1, 32, 1, 0, 1, 0, 1), Margins(8, 8, 8, 8)),
    ((80, 1, 32, 1, 2, 1, -8, 1), Margins(10, 6, 0, 16)),
    ((160, 2, 95, 2, 1, 2, 0, 1), Margins(8, 8, 0, 1)),
    ((80, 0, 32, 1, 0, 1, 0, 1), WHOLE),  # no number
    ((200, 1, 48, 1, 0, 1, 0, 1), WHOLE),  # larger than the picture
    ((80, 1, 32, 1, 500, 1, 0, 1), WHOLE),  # outside of it
  ],
)
def test_a_clean_aperture_is_around_the_middle(aperture, expected):
  assert margins.margins_of_aperture(struct.pack(">IIIIiIiI", *aperture), 96, 48) == expected


def test_an_aperture_that_is_cut_off_is_none():
  assert margins.margins_of_aperture(b"\0\0\0\x50", 96, 48) == WHOLE


def element(name: int, data: bytes, unknown: bool = False) -> bytes:
  size = b"\x01" + (b"\xff" * 7 if unknown else len(data).to_bytes(7, "big"))
  return name.to_bytes((name.bit_length() + 7) // 8, "big") + size + data


def matroska(*videos: bytes, before: bytes = b"") -> io.BytesIO:
  """Returns a file of tracks of pictures with such elements, and one of sound among them."""
  tracks = [element(0xAE, element(0x83, b"\1") + element(0xE0, video)) for video in videos]
  tracks.insert(1, element(0xAE, element(0x83, b"\2")))
  segment = element(0x18538067, before + element(0x1654AE6B, b"".join(tracks)), unknown=True)
  return io.BytesIO(element(0x1A45DFA3, b"") + segment)


def test_each_track_of_matroska_has_its_own():
  first = element(0xB0, b"\x60") + element(0x54CC, b"\x0a") + element(0x54AA, b"\x01\x00")
  file = matroska(first, b"", element(0x54DD, b"\3") + element(0x54BB, b"\4"))
  assert margins._of_matroska(file, 0) == Margins(left=10, bottom=256)
  assert margins._of_matroska(file, 1) == WHOLE
  assert margins._of_matroska(file, 2) == Margins(right=3, top=4)
  assert margins._of_matroska(file, 3) == WHOLE


def test_pictures_are_not_searched_for_margins():
  cluster = element(0x1F43B675, element(0x1654AE6B, element(0xAE, element(0x83, b"\1"))))
  assert margins._of_matroska(matroska(element(0x54CC, b"\1"), before=cluster), 0) == WHOLE


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_whatever_the_bytes_they_are_read_in_time(tmp_path, suffix):
  path = write_video(tmp_path / f"v.{suffix}", num=3)
  data = pathlib.Path(path).read_bytes()
  rng = np.random.default_rng(0)
  for _ in range(300):
    bad = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
    for at in rng.integers(0, min(len(bad), 1200), rng.integers(1, 20)):
      bad[at] = rng.integers(256)
    file = io.BytesIO(bytes(bad))
    found = margins._of_matroska(file, 0) if suffix == "mkv" else margins._of_mp4(file, 1)
    assert min(found) >= 0
    assert sum(1 for _ in whole(file).inside(file)) < 10_000


def test_margins_that_leave_nothing_are_damage(tmp_path):
  path = tmp_path / "v.mkv"
  data = pathlib.Path(write_video(path, num=3, codec="ffv1")).read_bytes()
  unit, left = b"\x54\xb2\x81\x04", b"\x54\xcc\x81\x60"
  assert data.count(unit) == 1
  path.write_bytes(data.replace(unit, left))
  for read in (probe.probe, lambda at: next(iter(video_row(at)))):
    with pytest.raises(DamagedError, match="v.mkv .* cannot be opened"):
      read(str(path))


def test_whatever_the_bytes_of_a_heif_they_are_refused_or_described(tmp_path):
  path = tmp_path / "a.heic"
  write_grid(path, np.full((70, 100, 3), 90, np.uint8))
  data, rng, outcomes = path.read_bytes(), np.random.default_rng(0), set()
  for _ in range(500):
    bad = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
    for at in rng.integers(0, min(len(bad), 900), rng.integers(1, 20)):
      bad[at] = rng.integers(256)
    try:
      outcomes.add(heif.describe(io.BytesIO(bytes(bad))) is not None)
    except ValueError as error:
      assert "the description of its images is damaged" in str(error)
      outcomes.add("refused")
  assert outcomes == {True, False, "refused"}
