"""The right samples with every tick, and never one from after it."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from stream_checks import video_row
from video_files import sample_code, write_video

NTSC = Fraction(30000, 1001)


def code(start, count=640):
  return sample_code(np.arange(start, start + count)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["mkv", "mov", "mp4", "avi", "nut"])
@pytest.mark.parametrize("rate_hz", [25.0, 12.5, 20.0])
def test_a_tick_has_exactly_the_samples_since_the_one_before(tmp_path, suffix, rate_hz):
  ticks = list(video_row(write_video(tmp_path / f"v.{suffix}"), rate_hz=rate_hz))
  samples = int(16000 / rate_hz)
  assert not ticks[0]["audio_valid"] and not ticks[0]["audio"].any()
  for i, tick in enumerate(ticks[1:]):
    np.testing.assert_array_equal(tick["audio"], code(i * samples, samples))
    assert tick["audio_valid"]


def test_ntsc_has_whole_samples_without_drift(tmp_path):
  path = write_video(tmp_path / "v.mkv", fps=NTSC, num=90, audio_rate=30000)
  ticks = list(video_row(path, rate_hz=29.97, audio_rate_hz=30000))
  for i, tick in enumerate(ticks[1:]):
    np.testing.assert_array_equal(tick["audio"], code(i * 1001, 1001))


@pytest.mark.parametrize("audio_rate", [48000, 44100, 22050, 8000])
def test_nothing_is_heard_before_it_happens(tmp_path, audio_rate):
  """A click just after a tick's time must not ring in that tick; it comes within 2 ms."""
  click = audio_rate  # at 1 s, the time of tick 25

  def sound(n):
    return np.where(n == click, 0.9, 0.0)

  path = write_video(tmp_path / "v.mkv", audio_rate=audio_rate, sound=sound, num=50)
  wave = np.concatenate([tick["audio"] for tick in video_row(path)])
  heard = np.flatnonzero(wave) - 640  # tick 0 has the samples before time 0
  assert heard.min() >= 16000
  assert 16000 <= np.argmax(np.abs(wave)) - 640 <= 16000 + 32


def test_resampled_sound_keeps_its_pitch_and_place(tmp_path):
  def sound(n):
    return 0.5 * np.sin(2 * np.pi * 440 * n / 44100)

  path = write_video(tmp_path / "v.mkv", audio_rate=44100, sound=sound, num=100)
  wave = np.concatenate([tick["audio"] for tick in video_row(path)])[640 + 200 : -200]
  n = np.arange(200, 200 + len(wave)) - 16  # the filter's reach
  np.testing.assert_allclose(wave, 0.5 * np.sin(2 * np.pi * 440 * n / 16000), atol=2e-3)


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_late_and_short_sound_is_zero_and_not_valid_around(tmp_path, suffix):
  path = write_video(tmp_path / f"v.{suffix}", sound_start_s=0.5, sound_s=0.7, num=50)
  ticks = list(video_row(path))
  # Tick i hears ((i - 1) / 25, i / 25]: all of it lies in [0.5, 1.2] for i = 14 ... 30.
  assert [i for i, tick in enumerate(ticks) if tick["audio_valid"]] == list(range(14, 31))
  wave = np.concatenate([tick["audio"] for tick in ticks[1:]])
  np.testing.assert_array_equal(wave[8000 : 8000 + 11200], code(0, 11200))
  assert not wave[:8000].any() and not wave[19200:].any()


def test_sound_that_begins_before_the_pictures_is_heard_at_tick_zero(tmp_path):
  times = [Fraction(1, 5) + Fraction(n, 25) for n in range(10)]
  path = write_video(tmp_path / "v.mkv", times=times, sound_s=1.0)
  ticks = list(video_row(path))
  np.testing.assert_array_equal(ticks[0]["audio"], code(3200 - 640))
  np.testing.assert_array_equal(ticks[5]["audio"], code(3200 + 4 * 640))


def test_offset_moves_the_sound(tmp_path):
  path = write_video(tmp_path / "v.mkv")
  later = list(video_row(path, audio_offset_s=0.1))
  np.testing.assert_array_equal(later[10]["audio"], code(9 * 640 - 1600))


@pytest.mark.parametrize("audio_codec", ["pcm_s16le", "flac"])
@pytest.mark.parametrize(("layout", "channels"), [("stereo", 2), ("5.1", 6), ("7.1", 8)])
def test_channels_are_averaged(tmp_path, layout, channels, audio_codec):
  gains = np.linspace(1, 0.2, channels)[:, None]
  path = write_video(
    tmp_path / "v.mkv",
    layout=layout,
    sound=lambda n: gains * sample_code(n),
    num=20,
    audio_codec=audio_codec,
  )
  for i, tick in enumerate(video_row(path)):
    heard = code((i - 1) * 640) * gains.mean() if i else np.zeros(640)
    np.testing.assert_allclose(tick["audio"], heard, rtol=0, atol=1 / 32768)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
def test_the_same_sound_in_all_channels_is_as_loud_as_in_one(tmp_path, layout):
  def sound(n):
    return 0.99 * np.sin(n / 40)

  path = write_video(tmp_path / "v.mkv", layout=layout, sound=sound, num=20, audio_rate=48000)
  audio = np.concatenate([tick["audio"] for tick in video_row(path)])[1000:]
  assert np.abs(audio).max() <= 0.995
  assert audio.std() == pytest.approx(0.99 / np.sqrt(2), rel=0.01)


def test_files_without_sound_and_silent_ones_have_none(tmp_path, caplog):
  none = write_video(tmp_path / "none.mkv", num=5, sound_s=0)
  assert not caplog.records
  assert not any(tick["audio_valid"] for tick in video_row(none))
  silent = write_video(tmp_path / "silent.mkv", num=5, sound=lambda n: 0.0 * n)
  with caplog.at_level(logging.WARNING):
    assert not any(tick["audio_valid"] for tick in video_row(silent))
  assert "silent.mkv: the mean of its sound's channels is zero throughout" in caplog.text


def test_a_hole_in_the_sound_stays_where_it_is(tmp_path):
  path, source = tmp_path / "hole.mkv", write_video(tmp_path / "v.mkv", num=60)
  with av.open(source) as old, av.open(str(path), "w") as new:
    tracks = {s.index: new.add_stream_from_template(s) for s in old.streams}
    for packet in old.demux():
      inside = packet.stream.type == "audio" and 0.8 < (packet.pts or 0) * packet.time_base < 1.2
      if packet.size and not inside:
        packet.stream = tracks[packet.stream.index]
        new.mux(packet)
  iterator = iter(video_row(path))
  ticks = list(iterator)
  valid = [i for i, tick in enumerate(ticks) if tick["audio_valid"]]
  assert set(range(1, 20)) | set(range(32, 60)) <= set(valid)
  assert not set(range(22, 29)) & set(valid)
  np.testing.assert_array_equal(ticks[40]["audio"], code(39 * 640))
  assert iterator.damage.gaps == 1
