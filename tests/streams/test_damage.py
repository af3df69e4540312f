"""Damaged files: a clear message, or on past the damage with the loss counted. Never in silence."""

import logging
import pathlib

import av
import numpy as np
import pytest
from stream_checks import BARS, assert_restores, video_row
from video_files import cut, flip, number_of, write_video

from perceiver_stream import streams
from perceiver_stream.streams import video
from perceiver_stream.streams.damage import Damage, DamagedError

FASTSTART = {"movflags": "faststart"}


def read(path, **fields):
  """Returns the ticks and the damage."""
  iterator = iter(video_row(path, **fields))
  ticks = list(iterator)
  return ticks, iterator.damage


def refuses(path, text, **fields):
  with pytest.raises(DamagedError, match=text) as error:
    read(path, **fields)
  assert pathlib.Path(path).name in str(error.value)


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_a_title_that_is_not_utf8_is_no_damage(tmp_path, suffix):
  path = tmp_path / f"old.{suffix}"
  write_video(path, num=4, sound_s=0, title="xyzzy")
  data = path.read_bytes()
  assert data.count(b"xyzzy") == 1
  path.write_bytes(data.replace(b"xyzzy", b"M\xfcll\xff"))
  ticks, damage = read(path)
  assert len(ticks) == 4 and not damage


@pytest.mark.parametrize(
  ("name", "data"),
  [
    ("empty.mp4", b""),
    ("text.mp4", b"This is not a video at all.\n" * 99),
    ("noise.mkv", bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8))),
  ],
)
def test_what_is_no_video_is_refused(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  refuses(tmp_path / name, rf"{name} \({len(data)} bytes\) cannot be opened .*check that it plays")


def test_cut_off_with_its_index_at_the_end_cannot_be_opened(tmp_path):
  refuses(cut(write_video(tmp_path / "v.mp4"), 0.6), "cut off, or no media file")


def test_sound_alone_is_no_video(tmp_path):
  path = str(tmp_path / "sound.wav")
  with av.open(path, "w") as container:
    track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
    frame.sample_rate = 16000
    container.mux(track.encode(frame))
  refuses(path, r"has no video track to decode \(it has: audio\); leave it out of path")


def test_tracks_without_a_decoder_are_told(tmp_path, caplog):
  path = pathlib.Path(write_video(tmp_path / "v.mkv", num=10))
  data = path.read_bytes()
  assert b"V_MPEG4/ISO/AVC" in data and b"A_PCM/INT/LIT" in data
  path.write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_PCX/INT/LIT"))
  ticks, _ = read(path)
  assert len(ticks) == 10 and not any(tick["audio_valid"] for tick in ticks)
  assert "v.mkv: there is no decoder for 1 of its audio tracks" in caplog.text
  path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEGX/ISO/AVC"))
  refuses(path, r"no video track to decode \(it has: video, audio\)")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_no_pictures(tmp_path, suffix):
  path = write_video(tmp_path / f"v.{suffix}", num=0, sound_s=1.0)
  refuses(path, "not one image|cannot be opened|no video track")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov"])
@pytest.mark.parametrize("sound_s", [0, None])
def test_cut_off_files_say_so(tmp_path, caplog, suffix, sound_s):
  path = write_video(
    tmp_path / f"v.{suffix}", num=100, gop=10, sound_s=sound_s, container_options=FASTSTART
  )
  refuses(cut(path, 0.6), r"is damaged: .*Use on_damage='skip'")
  with caplog.at_level(logging.WARNING):
    ticks, damage = read(path, on_damage="skip")
  kept = len(ticks)
  assert 20 < kept < 95
  shown = [number_of(tick["pixels"]) for tick in ticks]
  assert shown[:-3] == list(range(kept - 3)), "those about the cut may be broken"
  assert abs(damage.lost - (100 - kept)) <= 2
  assert "its images end at" in caplog.text and f"lost {damage.lost}" in caplog.text


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits(tmp_path, suffix, seed):
  """Reading ends and the clock is kept; what a decoder notices is counted, or stops it."""
  path = write_video(
    tmp_path / f"v.{suffix}", num=100, gop=10, codec="mpeg4", audio_codec="mp2", audio_rate=48000
  )
  flip(path, num=60, seed=seed)
  ticks, damage = read(path, on_damage="skip")
  last = [number_of(tick["pixels"]) for tick in ticks][-5:]
  assert last == list(range(last[0], last[0] + 5)), "in step again after the damage"
  slip = last[-1] - (len(ticks) - 1)  # AVI has no times: a picture lost is a tick lost
  assert slip == 0 or (suffix == "avi" and 0 < slip <= damage.packets + damage.lost + 2)
  assert len(ticks) + slip in (98, 99, 100)
  damage.gaps = 0
  if damage:
    refuses(path, "is damaged: .* Use on_damage='skip' to continue")
  else:
    assert len(read(path)[0]) == len(ticks)


def broken_in_the_middle(tmp_path):
  """Writes a file whose pictures 30 to 39 cannot be decoded."""
  path, source = tmp_path / "v.mkv", write_video(tmp_path / "a.mkv", num=60, gop=10, codec="mpeg4")
  with av.open(source) as old, av.open(str(path), "w") as new:
    tracks = {s.index: new.add_stream_from_template(s) for s in old.streams}
    number = 0
    for packet in old.demux():
      if not packet.size:
        continue
      if packet.stream.type == "video":
        if 30 <= number < 40:
          time = packet.pts, packet.dts, packet.time_base, packet.stream
          packet = av.Packet(b"\0" * 40)
          packet.pts, packet.dts, packet.time_base, packet.stream = time
        number += 1
      packet.stream = tracks[packet.stream.index]
      new.mux(packet)
  return path


def test_pictures_held_over_damage_are_not_valid_and_the_rest_is_in_step(tmp_path):
  path = broken_in_the_middle(tmp_path)
  refuses(path, r"a packet of the video track at 1.\d+ s: .*Use on_damage='skip'")
  ticks, damage = read(path, on_damage="skip")
  assert damage.packets == 10
  shown = [number_of(tick["pixels"]) for tick in ticks]
  assert shown[:40] == [*range(30), *[29] * 10]
  wrong = {i for i in range(60) if shown[i] != i}
  not_valid = {i for i, tick in enumerate(ticks) if not tick["pixels_valid"]}
  assert wrong <= not_valid <= set(range(30, 50)), "up to the next key frame"
  assert damage.broken == len(not_valid - set(range(30, 40)))
  assert all(tick["audio_valid"] for tick in ticks[1:]), "the sound is whole"


def test_pictures_that_are_ticks_keep_their_times_past_damage(tmp_path):
  path = broken_in_the_middle(tmp_path)
  ticks, damage = read(path, on_damage="skip", rate_hz=0.0, audio_rate_hz=0)
  whole = [tick for tick in ticks if tick["pixels_valid"]]
  shown = [number_of(tick["pixels"]) for tick in whole]
  assert shown == [round(tick["timestamp_s"] * 25) for tick in whole]
  assert set(range(30)) <= set(shown) and len(ticks) == 50 and damage.packets == 10


def test_pictures_that_are_not_there_are_told_of(tmp_path, caplog):
  """A decoder sees no damage, and a recorder may leave pictures out: no error."""
  path = pathlib.Path(write_video(tmp_path / "v.mkv", num=60, gop=1, codec="ffv1", sound_s=0))
  data = bytearray(path.read_bytes())
  with av.open(str(path)) as container:
    packets = [bytes(packet) for packet in container.demux() if packet.size]
  for packet in packets[30:40]:
    data[data.find(packet) - 4] ^= 0x0E  # now of a track that the file does not have
  path.write_bytes(data)
  with caplog.at_level(logging.WARNING):
    ticks, damage = read(path)
  shown = [number_of(tick["pixels"]) for tick in ticks]
  held = shown.count(29)
  assert held > 10, "FFmpeg leaves out more, to be in step again"
  assert shown == [*range(29), *[29] * held, *range(29 + held, 60)]
  assert damage == Damage(gaps=1)
  assert f"its images have a hole from 1.20 s to {(29 + held) / 25:.2f} s" in caplog.text


def test_going_on_after_damage_is_exact_and_keeps_count(tmp_path):
  path = broken_in_the_middle(tmp_path)
  row = video_row(path, on_damage="skip")
  assert_restores(row, places=(0, 20, 29, 30, 35, 40, 50, 60))
  iterator = iter(row)
  for _ in range(50):
    next(iterator)
  again = iter(row)
  again.set_state(iterator.get_state())
  for one, other in ((iterator, again), (again, iterator)):
    assert len(list(one)) == 10, other
  assert again.damage == iterator.damage and again.damage.packets == 10


def test_a_playlist_goes_on_without_the_file_that_cannot_be_read(tmp_path, caplog):
  write_video(tmp_path / "1.mkv", num=5)
  (tmp_path / "2.mkv").write_bytes(b"nothing")
  write_video(tmp_path / "3.mkv", num=4)
  with pytest.raises(DamagedError, match="2.mkv .*cannot be opened"):
    read(tmp_path)
  with caplog.at_level(logging.WARNING):
    ticks, damage = read(tmp_path, on_damage="skip")
  assert (len(ticks), damage.files) == (9, 1)
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0, 5]
  assert (
    "2.mkv (7 bytes) cannot be opened" in caplog.text and "Continuing without it" in caplog.text
  )
  assert_restores(video_row(tmp_path, on_damage="skip"))


def test_a_playlist_goes_on_without_the_file_of_which_nothing_decodes(tmp_path, caplog):
  write_video(tmp_path / "1.mkv", num=4, sound_s=0)
  path = write_video(tmp_path / "2.mp4", num=10, sound_s=0, container_options=FASTSTART)
  data = bytearray(pathlib.Path(path).read_bytes())
  at = data.find(b"mdat") + 4
  pathlib.Path(path).write_bytes(data[:at] + bytes(len(data) - at))
  write_video(tmp_path / "3.mkv", num=4, sound_s=0)
  for rates in ({}, {"rate_hz": 0.0, "audio_rate_hz": 0}):
    ticks, damage = read(tmp_path, on_damage="skip", **rates)
    assert (len(ticks), damage.files) == (8, 1)
    assert "not one image of its video track (h264) could be decoded" in caplog.text
  refuses(path, "is damaged")


def test_a_playlist_of_nothing_but_damage_is_an_error_not_an_endless_loop(tmp_path):
  (tmp_path / "1.mkv").write_bytes(b"nothing")
  with pytest.raises(DamagedError, match="not one of the 1 files of path=.* could be read"):
    read(tmp_path, on_damage="skip", loops=-1)


def test_a_file_that_goes_away_is_named(tmp_path):
  path = write_video(tmp_path / "v.mkv")
  row = video_row(path, on_damage="skip")
  pathlib.Path(path).unlink()
  with pytest.raises(FileNotFoundError, match="no file '.*v.mkv'"):
    next(iter(row))


@pytest.mark.parametrize("leap_s", [10_000, 90])
def test_a_leap_of_the_clock_is_no_endless_hold(tmp_path, leap_s):
  times = [n / 25 + (leap_s if n >= 20 else 0) for n in range(40)]
  path = write_video(tmp_path / "v.mkv", times=times, codec="mpeg4", sound_s=2.0)
  refuses(path, "v.mkv: its clock leaps from 0.76 s to .*, by damage, an edit or a pause .*_s=60")
  ticks, damage = read(path, on_damage="skip")
  assert [number_of(tick["pixels"]) for tick in ticks] == list(range(40))
  assert damage.jumps == 1
  assert not any(tick["audio_valid"] for tick in ticks[21:])
  ticks, damage = read(path, max_gap_s=1e5, max_ticks=100)
  assert number_of(ticks[99]["pixels"]) == 19
  assert damage.gaps == 1 and not damage.jumps
  ticks, damage = read(path, rate_hz=0.0, audio_rate_hz=0)
  assert [number_of(tick["pixels"]) for tick in ticks] == list(range(40)) and not damage.jumps
  assert ticks[20]["timestamp_s"] == pytest.approx(leap_s + 0.8)


def test_a_clock_that_is_set_back_goes_on(tmp_path):
  """Two transport streams one after the other are one file, whose clock starts anew."""
  first = write_video(tmp_path / "a.ts", num=60, codec="mpeg4", sound_s=0)
  second = write_video(tmp_path / "b.ts", num=50, codec="mpeg4", sound_s=0)
  path = tmp_path / "v.ts"
  path.write_bytes(b"".join(pathlib.Path(part).read_bytes() for part in (first, second)))
  refuses(path, "its clock leaps from 2.36 s to 0.00 s")
  ticks, damage = read(path, on_damage="skip")
  assert [number_of(tick["pixels"]) for tick in ticks] == [*range(60), *range(50)]
  assert damage.jumps == 1 and damage.late == 0
  assert_restores(video_row(path, on_damage="skip"), places=(10, 59, 60, 100))


def test_warnings_are_logged_once_a_kind_and_summed_up(tmp_path, caplog):
  with caplog.at_level(logging.WARNING):
    read(broken_in_the_middle(tmp_path), on_damage="skip")
  messages = [record.message for record in caplog.records]
  assert sum("continuing after it" in message for message in messages) == len(messages) - 1
  assert "v.mkv: damage in all: packets 10, broken" in messages[-1]


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "mov", "ts", "nut"])
def test_sound_files_have_no_damage(tmp_path, suffix):
  path = write_video(tmp_path / f"v.{suffix}", codec="mpeg4", audio_codec="mp2", audio_rate=48000)
  damage = read(path)[1]
  assert not damage
  assert str(damage) == "none"
  assert str(Damage(lost=2) + Damage(lost=1, sound=4)) == "lost 3, sound 4"


def test_damage_in_a_row_surfaces_through_windows_and_prefetch(tmp_path):
  config = video.Config(path=str(broken_in_the_middle(tmp_path)), **BARS)
  windows = streams.prefetch(streams.windows(streams.open_rows(config), 4, 4))
  with pytest.raises(DamagedError, match="v.mkv is damaged"):
    list(windows)


def test_pictures_that_change_size_and_rate_midway_keep_size_and_clock(tmp_path):
  first = write_video(tmp_path / "a.ts", num=30, codec="mpeg4", sound_s=0)
  times = [1.2 + n / 50 for n in range(40)]
  second = write_video(
    tmp_path / "b.ts", times=times, height=96, width=192, codec="mpeg4", sound_s=0
  )
  path = tmp_path / "v.ts"
  path.write_bytes(b"".join(pathlib.Path(part).read_bytes() for part in (first, second)))
  ticks, _ = read(path, on_damage="skip")
  assert {tick["pixels"].shape for tick in ticks} == {ticks[0]["pixels"].shape}
  shown = [number_of(tick["pixels"]) for tick in ticks]
  assert shown[:28] == list(range(28))
  assert shown[-15:-1] == list(range(shown[-15], shown[-15] + 28, 2)), "every other picture"
  assert_restores(video_row(path, on_damage="skip"), places=(10, 29, 31, 40))
