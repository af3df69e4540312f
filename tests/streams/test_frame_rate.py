"""Any frame rate: a tick for each picture of the file at its time, and no talk of damage."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from stream_checks import BARS, assert_restores, video_row
from video_files import number_of, write_video

from perceiver_stream import streams
from perceiver_stream.streams import frame_rate, probe, video

NTSC = Fraction(30000, 1001)


def phone_times(num=60, seed=3):
  """Returns times of a phone's pictures: 30 a second, 2 ms of jitter, one in twelve twice as long."""
  rng = np.random.default_rng(seed)
  steps = 1 / 30 + rng.normal(size=num) * 0.002 + (rng.random(num) < 1 / 12) / 30
  return [Fraction(round(t * 12800), 12800) for t in np.concatenate([[0], np.cumsum(steps)])[:num]]


def own_pictures(path, **fields):
  return video_row(path, rate_hz=0.0, audio_rate_hz=0, **fields)


def rates_of(path):
  with av.open(str(path)) as container:
    track = container.streams.video[0]
    return frame_rate.mean_rate(track), frame_rate.constant_rate(track)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "nut", "ts"])
def test_each_picture_is_a_tick_at_its_own_time(tmp_path, suffix, caplog):
  times = phone_times()
  path = write_video(tmp_path / f"v.{suffix}", times=times, fps=30, sound_s=0, gop=7)
  with caplog.at_level(logging.WARNING):
    ticks = assert_restores(own_pictures(path), places=(0, 1, 8, 31, 59, 60))
  assert [number_of(tick["pixels"]) for tick in ticks] == list(range(60))
  np.testing.assert_allclose([t["timestamp_s"] for t in ticks], np.float64(times), atol=6e-4)
  assert all(tick["pixels_valid"] for tick in ticks)
  assert "is damaged" not in caplog.text and "damage in all" not in caplog.text


@pytest.mark.parametrize("rate", [0.0, 30.0])
def test_a_variable_rate_is_no_damage(tmp_path, rate, caplog):
  path = write_video(tmp_path / "v.mp4", times=phone_times(), fps=30, sound_s=0)
  with caplog.at_level(logging.WARNING):
    iterator = iter(video_row(path, rate_hz=rate, audio_rate_hz=0))
    assert len(list(iterator)) >= 60
  assert not iterator.damage and not caplog.records


def test_a_hole_in_a_constant_rate_is_told_and_not_called_damage(tmp_path, caplog):
  times = [Fraction(n + 10 * (n > 20), 25) for n in range(40)]
  path = write_video(tmp_path / "v.mkv", times=times, sound_s=0)
  with caplog.at_level(logging.WARNING):
    iterator = iter(video_row(path))
    assert len(list(iterator)) == 50
  assert str(iterator.damage) == "gaps 1"
  messages = [record.message for record in caplog.records]
  assert "v.mkv: its images have a hole from 0.84 s to 1.24 s; a recorder" in messages[0]
  assert messages[1:] == [f"{path}: holes in all: gaps 1."]


def test_files_after_each_other_are_on_one_clock(tmp_path):
  write_video(tmp_path / "1.mkv", times=[0, 0.5, 0.6], sound_s=0)
  write_video(tmp_path / "2.mkv", num=3, fps=10, sound_s=0)
  ticks = assert_restores(own_pictures(tmp_path, loops=2))
  times = np.asarray([tick["timestamp_s"] for tick in ticks])
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0, 3, 6, 9]
  steps = np.diff(times)
  np.testing.assert_allclose(steps[[0, 1, 3, 4]], [0.5, 0.1, 0.1, 0.1], atol=1e-3)
  assert (steps > 0.01).all() and times[9] - times[6] == pytest.approx(times[3], abs=1e-5)


@pytest.mark.parametrize(
  ("name", "codec", "fps", "constant"),
  [
    ("v.mp4", "libx264", NTSC, NTSC),
    ("v.mkv", "libx264", Fraction(24000, 1001), Fraction(24000, 1001)),
    ("v.ivf", "libvpx", 30, 30),  # states no mean
    ("v.m2v", "mpeg2video", 30, None),  # states another than its pictures have
    ("v.avi", "mpeg4", 12, 12),
    ("v.ts", "mpeg4", 25, None),  # states none, and has a fine clock
  ],
)
def test_the_rate_that_a_file_states(tmp_path, name, codec, fps, constant):
  path = write_video(tmp_path / name, codec=codec, fps=fps, num=45, sound_s=0)
  mean, found = rates_of(path)
  assert found == constant
  assert mean is not None and (constant is None or mean == constant)
  about = probe.probe(path)
  assert about.rate_hz == float(constant or 0)
  ticks = streams.open_rows(
    video.Config(path=path, rate_hz=about.rate_hz, audio_rate_hz=0, **BARS)
  )[0]
  assert [number_of(tick["pixels"]) for tick in ticks] == list(range(45))


def test_times_that_shake_are_no_constant_rate(tmp_path):
  path = write_video(tmp_path / "v.mp4", times=phone_times(), fps=30, sound_s=0)
  mean, constant = rates_of(path)
  assert constant is None and 25 < float(mean) < 30
  assert probe.probe(path).rate_hz == 0


def test_ticks_without_a_rate_have_no_sound():
  with pytest.raises(ValueError, match=r"rate_hz=0 gives each image .*set audio_rate_hz=0 \(it"):
    video.Config(path="x.mp4", rate_hz=0.0)
  config = video.Config(path="x.mp4", rate_hz=0.0, audio_rate_hz=0)
  assert streams.specs(config)["pixels"].rate_hz == 0
  with pytest.raises(ValueError, match="max_ticks=-1"):
    video.Config(path="x.mp4", rate_hz=0.0, audio_rate_hz=0, max_ticks=-1)


def test_two_pictures_of_one_time_are_two_ticks(tmp_path):
  source = write_video(tmp_path / "a.mkv", num=9, codec="ffv1", gop=1, sound_s=0)
  path = tmp_path / "b.mkv"
  with av.open(source) as old, av.open(str(path), "w") as new:
    track = new.add_stream_from_template(old.streams.video[0])
    for packet in old.demux(video=0):
      if packet.size:
        packet.pts = packet.dts = 40 * (packet.pts // 80)
        packet.stream = track
        new.mux(packet)
  ticks = assert_restores(own_pictures(path))
  assert [number_of(tick["pixels"]) for tick in ticks] == list(range(9))


def test_numbers_of_any_pyav_are_exact():
  assert frame_rate.exact(None) is None and frame_rate.exact(Fraction(0)) is None
  assert frame_rate.exact(NTSC) == NTSC
  rational = pytest.importorskip("av.rational", reason="PyAV before 19").AVRational
  assert frame_rate.exact(rational(0, 0)) is None
  found = frame_rate.exact(rational(30000, 1001))
  assert type(found) is Fraction and found == NTSC
