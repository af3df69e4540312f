"""Captions state the two colours of a recording in their order; frames without order do not."""

import numpy as np
import pytest

from perceiver_stream.streams.events import COLOURS, WORDS, Config, Events


@pytest.mark.parametrize(
  "fields",
  [
    {},
    {"ticks_per_recording": 9, "event_ticks": 2, "gap": 5},
    {"height": 9, "share": 1.0, "gap": 0},
  ],
)
def test_events_are_where_and_when_the_recording_says(fields):
  config = Config(noise=0.0, **fields)
  values = 0.1 + 0.8 * np.array(list(COLOURS.values()))
  for recording in range(12):
    one = Events(config, 0, recording)
    read = [one.read() for _ in range(config.ticks_per_recording)]
    first, second = one.colours
    assert first != second
    words = [WORDS[i] for i in read[0]["caption"]]
    assert words == [list(COLOURS)[first], "before", list(COLOURS)[second]]
    frames = np.stack([tick["pixels"] for tick in read])
    for colour, start in zip(one.colours, one.starts, strict=True):
      shown = np.all(frames == np.rint(255 * values[colour]).astype(np.uint8), axis=-1)
      area = shown.sum(axis=(1, 2))
      ticks = np.flatnonzero(area)
      assert ticks.tolist() == list(range(start, start + config.event_ticks))
      sides = [max(1, round(config.share * n)) for n in (config.height, config.width)]
      assert set(area[ticks]) == {np.prod(sides)}
    assert one.starts[1] - one.starts[0] >= config.event_ticks + config.gap
    assert one.starts[1] + config.event_ticks <= config.ticks_per_recording


def test_all_ordered_pairs_and_many_times_occur():
  found = [Events(Config(num_colours=3), 0, recording) for recording in range(80)]
  assert len({tuple(one.colours) for one in found}) == 6
  assert len({tuple(one.starts) for one in found}) > 40


@pytest.mark.parametrize(
  "fields, text",
  [
    ({"num_colours": 10}, "num_colours=10; use at most 9"),
    ({"ticks_per_recording": 39}, "ticks_per_recording=39; use at least 40"),
    ({"share": 0.0}, "share=0.0; use more than 0"),
    ({"noise": float("nan")}, "noise=nan; use 0 to 1"),
    ({"audio_rate_hz": 8000}, "it is silent; set it to 0"),
  ],
)
def test_what_does_not_fit_is_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    Config(**fields)
