"""Parts of files: found by seeking, they are those of the whole file; their ends are no damage."""

import itertools
import math

import numpy as np
import pytest
from stream_checks import assert_restores
from video_files import number_of, write_video

from perceiver_stream.streams import clip_sets, labelled_clips, parts
from perceiver_stream.streams.damage import DamagedError

SECONDS, RATE = 4, 25


@pytest.fixture(
  scope="module", params=[("mkv", "pcm_s16le"), ("mp4", "aac"), ("ts", "mp2"), ("avi", "pcm_s16le")]
)
def file(request, tmp_path_factory):
  suffix, codec = request.param
  path = tmp_path_factory.mktemp("parts") / f"a.{suffix}"
  sound = lambda n: 0.4 * np.sin(np.asarray(n) * 0.05)  # noqa: E731
  return write_video(
    path, num=SECONDS * RATE, height=24, width=48, gop=10, audio_codec=codec, sound=sound
  )


def stream(path, *spans, **fields):
  """Returns the stream of parts of a file."""
  clips = tuple(
    (n, clip_sets.LabelledClip(str(path), "a", start, stop, {"label": (n,)}, ""))
    for n, (start, stop) in enumerate(spans)
  )
  config = labelled_clips.Config(height=24, width=48, crop="squash", **fields)
  return labelled_clips.ClipStream(config, clips)


@pytest.fixture(autouse=True)
def seeks(monkeypatch):
  """Counts seeks, which short files need, too."""
  counted = []
  monkeypatch.setattr(parts, "SEEK_S", 0.5)
  start_near = parts.PartPictures._start_near

  def count(self, due):
    counted.append(start_near(self, due))
    return counted[-1]

  monkeypatch.setattr(parts.PartPictures, "_start_near", count)
  return counted


def test_a_part_equals_that_part_of_the_whole(file, seeks):
  whole = list(stream(file, (0.0, math.inf)))  # from tick 2 on
  part = list(stream(file, (2.52, 3.2)))
  assert seeks == ([] if file.endswith("avi") else [True])
  assert len(part) == 17
  for tick, expected in zip(part, whole[62:79], strict=True):
    np.testing.assert_array_equal(tick["pixels"], expected["pixels"])
    assert number_of(tick["pixels"]) == number_of(expected["pixels"])
    assert tick["audio_valid"]
    np.testing.assert_allclose(tick["audio"], expected["audio"], atol=2e-3)


def test_every_tick_has_its_sound_at_other_rates_too(file):
  for rate in (16000, 22050):
    ticks = list(stream(file, (0.0, 1.0), (2.0, 3.0), audio_rate_hz=rate))
    assert len(ticks) == 24 + 25 and all(tick["audio_valid"] for tick in ticks)


def test_parts_resume_exactly(file):
  row = stream(file, (2.52, 2.8), (0.2, 0.4), (3.0, math.inf))
  ticks = assert_restores(row, (0, 1, 2, 6, 7, 8, 12, 13, 14, 30), ahead=3)
  assert [at for at, tick in enumerate(ticks) if tick["is_first"]] == [0, 7, 12]
  assert [int(tick["label"]) for tick in ticks] == 7 * [0] + 5 * [1] + 24 * [2]
  times = [tick["timestamp_s"] for tick in ticks]
  np.testing.assert_allclose(times, np.arange(36) / RATE)


def test_the_end_of_a_part_is_no_damage_and_one_after_the_file_is(file, caplog):
  assert len(list(stream(file, (0.4, 0.8), (3.6, 9.0)))) == 19
  assert "damage" not in caplog.text
  with pytest.raises(DamagedError, match="ends before its clip, which starts at 60.0 s"):
    list(stream(file, (60.0, 61.0)))
  ticks = list(stream(file, (0.0, 0.2), (60.0, 61.0), (0.0, 0.2), on_damage="skip"))
  assert [int(tick["clip"]) for tick in ticks] == 4 * [0] + 4 * [2]


@pytest.mark.parametrize("audio_rate_hz", [0, 16000])
def test_the_shortest_part_has_a_tick(file, audio_rate_hz):
  lengths = (1e-6, 0.04, 0.05, 0.2)
  rows = [stream(file, (1.0, 1.0 + length), audio_rate_hz=audio_rate_hz) for length in lengths]
  assert [len(list(row)) for row in rows] == [1, 1, 1, 5]


def test_ticks_of_another_rate_without_sound(file):
  found = list(stream(file, (2.0, 3.0), rate_hz=12.5, audio_rate_hz=0))
  numbers = [number_of(tick["pixels"]) for tick in found]
  assert numbers == list(range(50, 75, 2))


def test_a_seek_that_fails_decodes_from_the_start(file, monkeypatch):
  if file.endswith("avi"):
    return  # is never sought
  monkeypatch.setattr(parts.PartPictures, "_start_near", lambda self, due: False)
  first = itertools.islice(stream(file, (2.0, 3.0)), 3)
  assert [number_of(tick["pixels"]) for tick in first] == [51, 52, 53]
