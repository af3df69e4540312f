"""The clock: exact rates, whole samples, and what the messages say."""

import re
from fractions import Fraction

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import base, synthetic, video


@pytest.mark.parametrize(
  ("rate_hz", "exact"),
  [
    (25.0, Fraction(25)),
    (12.5, Fraction(25, 2)),
    (29.97, Fraction(30000, 1001)),
    (30000 / 1001, Fraction(30000, 1001)),
    (23.976, Fraction(24000, 1001)),
    (23.98, Fraction(24000, 1001)),
    (59.94, Fraction(60000, 1001)),
    (26.777, Fraction(26.777).limit_denominator(1001)),
    (30.0, Fraction(30)),
    (0.5, Fraction(1, 2)),
  ],
)
def test_rates_mean_fractions(rate_hz, exact):
  assert base.exact_rate(rate_hz) == exact


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_impossible_rates_are_refused(rate_hz):
  with pytest.raises(ValueError, match=f"rate_hz={rate_hz} ticks per second; use 0.01 to 10000"):
    base.exact_rate(rate_hz)


def test_ntsc_never_drifts():
  rate = base.exact_rate(29.97)
  assert 30000 * 1000 / rate == 1001 * 1000  # a million ticks are whole seconds, exactly


@pytest.mark.parametrize(
  ("rate_hz", "audio", "samples"),
  [(25.0, 16000, 640), (12.5, 16000, 1280), (29.97, 30000, 1001), (23.976, 24000, 1001)],
)
def test_samples_per_tick_are_whole(rate_hz, audio, samples):
  assert base.samples_per_tick(rate_hz, audio) == samples


@pytest.mark.parametrize(
  ("rate_hz", "audio"),
  [(29.97, 16000), (30.0, 16000), (23.976, 44100), (26.777, 48000), (7.0, 16000)],
)
def test_both_rates_that_the_message_offers_work(rate_hz, audio):
  with pytest.raises(ValueError, match="samples per tick of rate_hz") as error:
    base.samples_per_tick(rate_hz, audio)
  offer = re.search(r"audio_rate_hz=(\d+) \((\d+) samples\) or rate_hz=(\d+)\.$", str(error.value))
  assert base.samples_per_tick(rate_hz, int(offer[1])) == int(offer[2])
  assert base.samples_per_tick(float(offer[3]), audio) > 0


def test_config_checks_itself_when_made_and_again_after_flags():
  config = base.StreamConfig()
  config.rate_hz = 29.97
  with pytest.raises(ValueError, match="533.867 samples"):
    config.validate()
  for wrong in ({"max_ticks": -1}, {"audio_rate_hz": -1}, {"rate_hz": 0.0}):
    with pytest.raises(ValueError, match=next(iter(wrong))):
      base.StreamConfig(**wrong)


def test_without_sound_any_rate_will_do():
  assert base.StreamConfig(rate_hz=29.97, audio_rate_hz=0).audio_rate_hz == 0


def test_make_tick():
  pixels = np.zeros((2, 2, 3), np.uint8)
  tick = base.make_tick({"pixels": (pixels, False)}, True, Fraction(1001, 30000))
  assert tick["pixels"] is pixels
  assert (tick["pixels_valid"], tick["is_first"]) == (False, True)
  assert tick["timestamp_s"].dtype == np.float64
  assert tick["timestamp_s"] == 1001 / 30000


@pytest.mark.parametrize("state", [{}, {"tick": 0}, {"tick": 0, "file": 0, "more": 1}])
def test_foreign_states_are_refused(state):
  with pytest.raises(ValueError, match="video: the state to restore has .* expected .*file.*tick"):
    base.check_state("video", state, {"tick": 0, "file": 0})


@pytest.mark.parametrize("name", ["tick", "count"])
def test_negative_positions_are_refused_and_times_are_not(name):
  like = {"tick": 0, "count": 0, "shown": {"time": 0}}
  base.check_state("video", like | {"shown": {"time": -4}}, like)
  with pytest.raises(
    ValueError, match=f"video: the state to restore has {name}=-1, expected 0 or mo"
  ):
    base.check_state("video", like | {name: -1}, like)


@pytest.mark.parametrize(
  ("loop", "loops", "count", "max_ticks", "expected"),
  [(1, 2, 5, 0, False), (2, 2, 5, 0, True), (3, 2, 5, 0, True), (3, -1, 5, 0, False),
   (0, 1, 5, 6, False), (0, 1, 5, 5, True), (0, -1, 7, 5, True)],
)  # fmt: skip
def test_streams_are_over_after_their_passes_or_ticks(loop, loops, count, max_ticks, expected):
  config = video.Config(path="a", loops=loops, max_ticks=max_ticks)
  assert base.is_over({"loop": loop, "count": count}, config) is expected


def test_sound_belongs_to_the_time_before_its_tick_and_a_picture_to_the_tick():
  config = synthetic.Config(height=16, width=16, rate_hz=12.5)
  specs = streams.specs(config)
  assert specs["pixels"].offset_s == 0.0
  assert specs["audio"].offset_s == -0.08
  assert specs["audio"].shape[0] / specs["audio"].rate_hz == -specs["audio"].offset_s


@pytest.mark.parametrize(
  "state, expected",
  [
    ("{}", "has '{}', expected"),
    (
      {"tick": 0, "damage": {"lost": 0, "older": 1}},
      r"damage: .* has \['lost', 'older'\], expected",
    ),
    ({"tick": "3", "damage": {"lost": 0}}, "has tick='3', expected a whole number"),
    ({"tick": 0, "damage": {"lost": None}}, "damage: .* has lost=None, expected a whole number"),
  ],
)
def test_states_of_other_versions_are_refused_in_words(state, expected):
  with pytest.raises(
    ValueError, match=f"{expected}.* by another kind of stream or another version"
  ):
    base.check_state("video", state, {"tick": 0, "damage": {"lost": 0}})
