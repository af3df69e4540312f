"""Sources of a live page: files are closed, and a browser's images are those of its claim."""

import time

import numpy as np
import pytest
from jpegs import jpeg

from perceiver_stream import streams
from perceiver_stream.serving.messages import MessageError
from perceiver_stream.serving.sources import CAPTURED, BrowserSource, FileSource, LiveSource
from perceiver_stream.streams import live, synthetic
from perceiver_stream.types import IS_FIRST, ModalitySpec


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


@pytest.mark.parametrize("kind", ["push", "lavfi"])
def test_images_of_live_sources_are_captured_when_they_come(kind):
  started = time.time()
  push = live.Push({"pixels": ModalitySpec(shape=(8, 8, 3), dtype="uint8")}, when_faster="wait")
  config = push.config()
  if kind == "lavfi":
    config = live.Config(
      source="lavfi:testsrc=size=16x16:rate=25:duration=1",
      height=8,
      width=8,
      audio_rate_hz=0,
      when_faster="wait",
    )
  for number in range(3):
    push.put("pixels", np.zeros((8, 8, 3), np.uint8), number)
  came = time.time()
  push.close()
  times = [float(tick[CAPTURED]) for tick in LiveSource(config).ticks()]
  assert len(times) == {"push": 3, "lavfi": 25}[kind] and times == sorted(times)
  assert started <= times[0] and times[-1] <= (came if kind == "push" else time.time())


@pytest.fixture
def source():
  source = BrowserSource({"pixels": ModalitySpec(shape=(16, 24, 3), dtype="uint8")}, 25.0)
  yield source
  source.stop()


def test_each_sender_starts_a_recording_and_late_images_of_the_one_before_are_refused(source):
  one, other = object(), object()
  ticks, found = source.ticks(), []

  def put(number: int, captured_s: float) -> None:
    source.put(number, captured_s, jpeg(), None)
    tick = next(ticks)
    found.append((float(tick[CAPTURED]), bool(tick[IS_FIRST])))

  first = source.claim(one)
  assert source.claim(one) == first and source.claim(other) == 0
  put(first, 1.0)
  put(first, 2.0)
  source.release(one)
  with pytest.raises(MessageError, match="released the camera; start it again"):
    put(first, 3.0)
  second = source.claim(other)
  with pytest.raises(MessageError, match="released the camera"):
    put(first, 4.0)  # was being decoded while the other one claimed
  put(second, 5.0)
  put(second, 6.0)
  assert found == [(1.0, True), (2.0, False), (5.0, True), (6.0, False)]


def test_a_time_that_is_not_finite_is_refused(source):
  with pytest.raises(MessageError, match="not finite"):
    source.put(source.claim(source), np.nan, jpeg(), None)
