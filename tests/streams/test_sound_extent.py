"""Sound that no tick has is told of, in words that are true; whole files need none."""

import logging
from fractions import Fraction

import numpy as np
import pytest
from stream_checks import video_row
from video_files import sample_code, write_video

from perceiver_stream.streams.sound_extent import Extent, sound_extent

LOSSLESS = {"audio_codec": "pcm_s16le", "audio_rate": 16000}
MP2 = {"codec": "mpeg4", "audio_codec": "mp2", "audio_rate": 48000}
KINDS = {"mp4": MP2, "mkv": LOSSLESS, "ts": MP2, "avi": LOSSLESS, "mov": LOSSLESS, "nut": LOSSLESS}


def words(path, caplog, **fields):
  caplog.clear()
  with caplog.at_level(logging.WARNING):
    ticks = list(video_row(path, **fields))
  return len(ticks), [record.message.removeprefix(f"{path}: ") for record in caplog.records]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("num", [50, 1])
def test_sound_after_the_last_picture_is_told_of(tmp_path, caplog, suffix, num):
  path = write_video(tmp_path / f"v.{suffix}", num=num, sound_s=5.0, **KINDS[suffix])
  ticks, messages = words(path, caplog)
  assert ticks == num
  (message,) = [m for m in messages if "sound" in m]
  left_s, _, text = message.partition(" s of sound ")
  assert text == "after its last image are left out."
  assert float(left_s) == pytest.approx(5 - num / 25, abs=0.15)


@pytest.mark.parametrize("suffix", KINDS)
def test_nothing_is_said_where_nothing_is_left_out(tmp_path, caplog, suffix):
  path = write_video(tmp_path / f"v.{suffix}", num=30, **KINDS[suffix])
  assert words(path, caplog) == (30, [])
  assert words(path, caplog, max_ticks=9) == (9, [])
  assert words(path, caplog, audio_rate_hz=0) == (30, [])


def test_channels_that_cancel_are_not_called_a_silent_track(tmp_path, caplog):
  cancel = lambda n: np.stack([sample_code(n), -sample_code(n)])  # noqa: E731
  path = write_video(tmp_path / "v.mkv", num=10, sound=cancel, layout="stereo")
  assert words(path, caplog)[1] == ["the mean of its sound's channels is zero throughout."]
  path = write_video(tmp_path / "w.mkv", num=10, sound=lambda n: 0 * sample_code(n))
  assert words(path, caplog)[1] == ["the mean of its sound's channels is zero throughout."]


@pytest.mark.parametrize("suffix", ["mkv", "mov", "nut"])
def test_sound_of_another_time_is_told_of_as_such(tmp_path, caplog, suffix):
  late = [3 + Fraction(n, 25) for n in range(10)]
  path = write_video(tmp_path / f"v.{suffix}", times=late, sound_s=1.0)
  messages = words(path, caplog)[1]
  assert "its sound (0.00 to 1.00 s) ends before its images (3.00 to 3.40 s)." in messages
  path = write_video(tmp_path / f"w.{suffix}", num=10, sound_s=1.0, sound_start_s=2)
  assert words(path, caplog)[1] == ["1.00 s of sound after its last image are left out."]


def test_an_offset_moves_what_is_left_out(tmp_path, caplog):
  path = write_video(tmp_path / "v.mkv", num=25, sound_s=2.0)
  assert words(path, caplog, audio_offset_s=-0.5)[1] == [
    "0.50 s of sound after its last image are left out."
  ]
  assert words(path, caplog, audio_offset_s=-1.0)[1] == []


def test_the_extent_of_sound(tmp_path):
  path = write_video(tmp_path / "v.mkv", num=10, sound_s=1.5, sound_start_s=0.5)
  extent = sound_extent(path, -1, Fraction(0))
  assert extent is not None and str(extent) == "0.50 to 2.00 s"
  assert extent == Extent(Fraction(1, 2), Fraction(2))
  assert sound_extent(write_video(tmp_path / "w.mkv", num=3, sound_s=0), -1, Fraction(0)) is None
