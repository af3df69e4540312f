"""Rows of a mixture are those of its sources, cut down to what they have in common."""

import pytest
from stream_checks import assert_same

from perceiver_stream import streams
from perceiver_stream.streams import mixture, synthetic

SIZE = {"height": 16, "width": 24, "num_things": 1}
EASY = synthetic.Config(**SIZE, modalities=("pixels", "audio"), max_ticks=6)
HARD = synthetic.Config(**SIZE, level="hard", modalities=("pixels", "depth"), seed=3)


def test_rows_take_turns_with_the_sources():
  config = mixture.Config(sources={"easy": EASY, "hard": HARD}, max_ticks=9)
  rows = [list(row) for row in streams.open_rows(config, 4)]
  assert [len(row) for row in rows] == [6, 9, 6, 9]
  alone = [streams.open_rows(EASY, 2), streams.open_rows(HARD, 2)]
  names = ("pixels", "pixels_valid", "is_first", "timestamp_s")
  for number, row in enumerate(rows):
    for ours, theirs in zip(row, alone[number % 2][number // 2], strict=False):
      assert_same(ours, {name: theirs[name] for name in names})


def test_specs_span_those_of_all():
  few, many = (
    synthetic.Config(**SIZE | {"num_things": n}, modalities=("segmentation",)) for n in (1, 5)
  )
  config = mixture.Config(sources={"few": few, "many": many})
  spec = streams.specs(config)["segmentation"]
  assert (spec.minimum, spec.maximum) == (0, 5) and spec.dtype == "int32"


@pytest.mark.parametrize(
  ("sources", "message"),
  [
    ({}, "sources is empty; give it streams by name"),
    ({"a": EASY, "b": synthetic.Config(modalities=("pixels",))}, "nothing of one shape in common"),
  ],
)
def test_what_cannot_be_mixed(sources, message):
  with pytest.raises(ValueError, match=message):
    streams.specs(mixture.Config(sources=sources))


def test_one_tick_rate_for_all():
  with pytest.raises(ValueError, match="source 'slow' has rate_hz=5.0, the mixture 25.0"):
    mixture.Config(sources={"slow": synthetic.Config(rate_hz=5.0)})
