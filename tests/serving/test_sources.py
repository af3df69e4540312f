"""Sources of a live page close what they read from."""

import pytest

from perceiver_stream import streams
from perceiver_stream.serving.sources import FileSource
from perceiver_stream.streams import synthetic


@pytest.mark.parametrize("how", ["end", "stop", "leave"])
def test_files_are_closed_at_the_end_and_when_stopped(how, monkeypatch):
  config = synthetic.Config(height=16, width=16, max_ticks=3, num_things=1, modalities=("pixels",))
  rows = [iter(row) for row in streams.open_rows(config)]
  monkeypatch.setattr(streams, "open_rows", lambda _: rows)
  source = FileSource(config, is_paced=False)
  ticks = source.ticks()
  assert next(ticks)["is_first"]
  if how == "stop":
    source.stop()
  if how == "leave":
    ticks.close()  # type: ignore[attr-defined]
  assert len(list(ticks)) == {"end": 2, "stop": 0, "leave": 0}[how]
  with pytest.raises(ValueError, match="a closed iterator"):
    rows[0]._assert_not_closed()
