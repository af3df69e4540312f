"""Resuming in the middle of a sound track gives the sound of a run that never stopped."""

import itertools
import logging

import av
import av.error
import numpy as np
import pytest
from av.codec import Codec
from stream_checks import assert_same, elements_and_states, video_row
from video_files import write_video

from perceiver_stream import streams
from perceiver_stream.streams import audio_decoding

SECONDS, RATE_HZ = 5, 10
SUFFIXES = ("mkv", "mov", "nut", "avi", "mpg")
# Codecs that no container with pictures carries, or whose sound none of them gives back.
ALONE = set(
  "adpcm_adx adpcm_argo adpcm_ima_alp adpcm_ima_amv adpcm_ima_apm adpcm_ima_ssi adpcm_ima_ws anull "
  "aptx aptx_hd g726le pcm_bluray pcm_s24daud pcm_vidc roq_dpcm sbc".split()
)


def encoders():
  """Returns the names of all audio codecs that FFmpeg here can write."""
  names = []
  for name in sorted(av.codecs_available):
    try:
      names += [name] if Codec(name, "w").type == "audio" else []
    except ValueError:
      pass
  return names


def lively(rate):
  """Returns a function from sample numbers to chords, hiss that swells, and digital silence."""

  def make(n):
    t = n / rate
    chord = sum(0.1 * np.sin(2 * np.pi * f * t) for f in (220, 277.2, 1180))
    hiss = np.random.default_rng(int(n[0])).standard_normal(len(n)) * 0.1
    hiss *= 1 + np.sin(2 * np.pi * 1.3 * t)
    return np.select([(2 * t).astype(int) % 3 == k for k in (0, 1)], [chord, hiss.clip(-0.9, 0.9)])

  return make


def steady(rate):
  """Returns a function from sample numbers to a tone and hiss without a pause."""
  make = lively(rate)
  return lambda n: 0.3 * np.sin(n / 9) + make(n)


def written(folder, codec, suffix="mkv", rate=48000, layout="stereo", make=lively, **options):
  """Returns a file with sound and tiny pictures."""
  return write_video(
    folder / f"{codec}.{suffix}",
    num=SECONDS * RATE_HZ,
    fps=RATE_HZ,
    codec="mpeg2video" if suffix in ("mpg", "ts") else "mpeg4",
    height=16,
    width=16,
    gop=5,
    sound=make(rate),
    audio_rate=rate,
    layout=layout,
    audio_codec=codec,
    audio_options={"strict": "-2", **options},
  )


def row(path):
  return video_row(path, height=8, width=8, rate_hz=float(RATE_HZ))


def heard(path):
  """Returns the sound of a file, without what comes before its first picture."""
  return np.concatenate([tick["audio"] for tick in row(path)][1:])


def assert_resumes(path, points):
  """Checks that resuming at each point equals never having stopped, to the end."""
  ticks, states = elements_and_states(row(path))
  assert any(tick["audio_valid"] for tick in ticks), "no sound"
  for point in points:
    iterator = iter(row(path))
    iterator.set_state(states[point])
    for tick, expected in itertools.zip_longest(iterator, ticks[point:]):
      assert_same(tick, expected)
  return states


@pytest.fixture(autouse=True)
def short_sections(monkeypatch):
  monkeypatch.setattr(audio_decoding, "SECTION_S", 1)


RESTARTING = [
  ("aac", "mp4", 48000, "stereo"),
  ("aac", "mkv", 8000, "mono"),
  ("mp2", "mkv", 44100, "stereo"),
  ("ac3", "ts", 48000, "5.1"),
  ("libopus", "mkv", 48000, "mono"),
  ("vorbis", "mkv", 44100, "stereo"),
  ("libmp3lame", "avi", 22050, "mono"),
  ("flac", "mkv", 44100, "5.1"),
  ("pcm_s16le", "mov", 44100, "stereo"),
]


@pytest.mark.parametrize("codec, suffix, rate, layout", RESTARTING)
def test_resuming_equals_never_having_stopped_to_the_end(tmp_path, codec, suffix, rate, layout):
  path = written(tmp_path, codec, suffix, rate, layout)
  states = assert_resumes(path, points=(2, 21, 41))
  packets = [state["sound"]["packet"] for state in states]
  assert packets[10] == 0 and packets[-1] > packets[30] > 0, "the decoder does not restart"


@pytest.mark.parametrize("codec, suffix", [("adpcm_yamaha", "avi"), ("nellymoser", "mov")])
def test_a_decoder_that_never_forgets_is_not_restarted(tmp_path, codec, suffix):
  path = written(tmp_path, codec, suffix, rate=8000, layout="mono", make=steady)
  states = assert_resumes(path, points=(21, 41))
  assert not any(state["sound"]["packets"] for state in states)


def test_windows_that_are_read_ahead_resume_exactly(tmp_path):
  path = written(tmp_path, "aac", b="48000")
  windows = streams.prefetch(streams.windows([row(path)], window=4, max_displacement=3), 2)
  iterator, expected, states = iter(windows), [], []
  for window in iterator:
    expected.append(window)
    states.append(iterator.get_state())
  iterator.close()
  for done in (3, 7):
    again = iter(windows)
    again.set_state(states[done])
    for one, other in itertools.zip_longest(again, expected[done + 1 :]):
      assert_same(one, other)
    again.close()


@pytest.mark.slow
@pytest.mark.parametrize("codec", encoders())
def test_every_codec_resumes_exactly(tmp_path, codec):
  tries = itertools.product(
    SUFFIXES, (48000, 22050, 16000, 8000), ("stereo", "mono"), ("0", "6300", "32000")
  )
  for suffix, rate, layout, bits in tries:
    try:
      path = written(tmp_path, codec, suffix, rate, layout, b=bits)
      if any(tick["audio_valid"] for tick in row(path)):
        break
    except (av.error.FFmpegError, OSError, ValueError):
      pass
  else:
    assert codec in ALONE, f"no container of {SUFFIXES} gives back its sound"
    return
  assert_resumes(path, points=(1, 2, 17, 30, 46))


# --- restarts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "codec, rate, layout, options",
  [
    ("pcm_s16le", 44100, "stereo", {}),
    ("vorbis", 48000, "stereo", {}),
    ("libmp3lame", 22050, "mono", {}),
    ("aac", 44100, "stereo", {"aac_pns": "0"}),  # without noise
  ],
)
def test_restarts_are_not_heard(tmp_path, monkeypatch, codec, rate, layout, options):
  path = written(tmp_path, codec, "mkv", rate, layout, **options)
  restarted = heard(path)
  monkeypatch.setattr(audio_decoding, "SECTION_S", 10**6)
  np.testing.assert_allclose(restarted, heard(path), rtol=0, atol=1e-4)


def test_only_made_up_noise_changes_at_restarts(tmp_path, monkeypatch):
  path = written(tmp_path, "aac", b="48000")
  restarted = heard(path)
  monkeypatch.setattr(audio_decoding, "SECTION_S", 10**6)
  once = heard(path)
  difference = np.abs(restarted - once)
  assert not difference[:16000].any() and difference.any()
  n = np.arange(len(once)) / 16000
  chord = (2 * n).astype(int) % 3 == 0
  assert difference[chord].mean() < 0.1 * difference[~chord].mean()
  for start in range(0, len(once), 1600):
    one, other = (np.square(wave[start : start + 1600]).mean() for wave in (once, restarted))
    assert 0.8 < (one + 1e-6) / (other + 1e-6) < 1.25, "louder or quieter"


def decoded_while(monkeypatch):
  """Returns a list to which every decoding of a packet adds one."""
  calls, inner = [], audio_decoding.decode_packet
  monkeypatch.setattr(audio_decoding, "decode_packet", lambda *a: calls.append(1) or inner(*a))
  return calls


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts", "nut"])
def test_resuming_decodes_from_the_last_restart(tmp_path, monkeypatch, suffix):
  path = written(tmp_path, "aac", suffix)
  _, states = elements_and_states(row(path))
  monkeypatch.setattr(audio_decoding.AudioDecoder, "_skip", None)
  calls = decoded_while(monkeypatch)
  iterator = iter(row(path))
  iterator.set_state(states[48])
  next(iterator)
  assert 0 < len(calls) < 2.6 * 48000 / 1024
  iterator.close()


def test_where_seeking_fails_packets_are_read_and_not_decoded(tmp_path, monkeypatch):
  path = written(tmp_path, "aac")
  ticks, states = elements_and_states(row(path))
  monkeypatch.setattr(audio_decoding.AudioDecoder, "_seek", lambda *_: iter(()))
  calls = decoded_while(monkeypatch)
  iterator = iter(row(path))
  iterator.set_state(states[40])
  for expected in ticks[40:42]:
    assert_same(next(iterator), expected)
  assert 0 < len(calls) < 2.6 * 48000 / 1024


def test_a_file_that_is_gone_is_read_on_without_restarts(tmp_path, monkeypatch):
  path = written(tmp_path, "vorbis")
  expected = heard(path)
  monkeypatch.setattr(audio_decoding, "open_media", lambda _: (_ for _ in ()).throw(OSError))
  np.testing.assert_allclose(heard(path), expected, rtol=0, atol=1e-4)


def test_other_sound_in_the_same_place_is_told(tmp_path, caplog):
  path = written(tmp_path, "pcm_s16le")
  _, states = elements_and_states(row(path))
  iterator = iter(row(path))
  iterator.set_state(states[30] | {"sound": states[30]["sound"] | {"crc": 1}})
  with caplog.at_level(logging.WARNING):
    next(iterator)
  assert "its sound is not the one heard when the state to restore was saved" in caplog.text
