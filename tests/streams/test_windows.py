"""Windows and prefetch: every tick once, rows apart, any stop restored, nothing lost at the end."""

import json
import logging
import subprocess
import sys
import threading
import time

import grain
import numpy as np
import pytest
from stream_checks import BARS, assert_restores, elements_and_states
from video_files import picture, write_video

from perceiver_stream import streams
from perceiver_stream.streams import synthetic, video


class Counting(grain.IterDataset):
  """Ticks whose vector is their number; `made` counts those made, by all iterators."""

  def __init__(self, num, start=0, recording=10**9, fail_at=-1, sleep_s=0.0):
    super().__init__()
    self.num, self.start, self.recording = num, start, recording
    self.fail_at, self.sleep_s, self.made = fail_at, sleep_s, 0

  def __iter__(self):
    return CountingIterator(self)


class CountingIterator(grain.DatasetIterator):
  def __init__(self, source):
    super().__init__()
    self.source, self.at = source, 0

  def __next__(self):
    source = self.source
    if self.at == source.fail_at:
      raise OSError("the disk is on fire")
    if self.at >= source.num:
      raise StopIteration
    time.sleep(source.sleep_s)
    at, self.at = self.at, self.at + 1
    source.made += 1
    return {
      "vector": np.array([source.start + at], np.float32),
      "is_first": np.bool_(at % source.recording == 0),
      "timestamp_s": np.float64(at / 25),
    }

  def get_state(self):
    return {"at": self.at}

  def set_state(self, state):
    self.at = state["at"]


@pytest.mark.parametrize("num", [1, 7, 8, 9, 24, 25, 32, 33, 64])
@pytest.mark.parametrize(("window", "ahead"), [(8, 16), (8, 0), (1, 3), (5, 5)])
def test_every_tick_that_can_be_a_target_is_one_exactly_once(num, window, ahead):
  targets, sources = [], set()
  for number, w in enumerate(streams.windows([Counting(num)], window, ahead)):
    assert w["vector"].shape == (window + ahead, 1, 1)
    live = ~w["ended"][:, 0]
    np.testing.assert_array_equal(
      w["vector"][live, 0, 0], number * window + np.arange(live.sum()), "starts at its place"
    )
    np.testing.assert_array_equal(w["vector_valid"][:, 0], live)
    targets += w["vector"][-window:][live[-window:], 0, 0].tolist()
    sources |= set(w["vector"][live, 0, 0].tolist())
  assert targets == list(range(ahead, num))
  assert sources == set(range(num)), "nothing is lost"


def test_names_shapes_and_dtypes_never_change():
  rows = [Counting(30), Counting(3), Counting(0)]
  shapes = [
    {name: (value.shape, value.dtype) for name, value in window.items()}
    for window in streams.windows(rows, 4, 4)
  ]
  assert len(shapes) == 7 and all(shape == shapes[0] for shape in shapes)
  assert set(shapes[0]) == {"vector", "vector_valid", "is_first", "timestamp_s", "ended"}
  assert shapes[0]["vector"] == ((8, 3, 1), np.float32)


def test_rows_end_and_start_apart():
  rows = [Counting(6, recording=4), Counting(20, start=100, recording=7)]
  windows = list(streams.windows(rows, 4, 4))
  ticks = {name: np.concatenate([w[name][:4] for w in windows]) for name in windows[0]}
  np.testing.assert_array_equal(ticks["vector"][:, 0, 0], [0, 1, 2, 3, 4, 5] + [5] * 10)
  np.testing.assert_array_equal(ticks["vector"][:, 1, 0], np.arange(100, 116))
  assert np.flatnonzero(ticks["is_first"][:, 0]).tolist() == [0, 4], "padding never resets"
  assert np.flatnonzero(ticks["is_first"][:, 1]).tolist() == [0, 7, 14]
  np.testing.assert_array_equal(ticks["ended"][:, 0], np.arange(16) >= 6)
  np.testing.assert_array_equal(ticks["vector_valid"][:, 0], np.arange(16) < 6)
  assert not ticks["ended"][:, 1].any()


def test_windows_restore_also_where_rows_have_ended():
  rows = [Counting(6, recording=4), Counting(33), Counting(0)]
  assert_restores(streams.windows(rows, 4, 5))
  assert_restores(streams.prefetch(streams.windows(rows, 4, 5), 3))


def test_windows_of_synthetic_rows_restore():
  config = synthetic.Config(height=16, width=16, max_ticks=30, ticks_per_recording=11)
  windows = streams.windows(streams.open_rows(config, 2), 4, 6)
  assert len(assert_restores(windows)) == 6
  assert len(assert_restores(streams.prefetch(windows, 2))) == 6


def test_windows_of_files_restore(tmp_path):
  for place, num in enumerate((23, 9, 14)):
    make = lambda n, h, w, place=place: picture(100 * place + n, h, w)  # noqa: E731
    write_video(tmp_path / f"{place}.mp4", num=num, gop=7, make=make)
  rows = streams.open_rows(video.Config(path=str(tmp_path), **BARS), 2)
  windows = streams.windows(rows, 4, 6)
  assert len(assert_restores(windows)) == 8
  assert len(assert_restores(streams.prefetch(windows, 2))) == 8


@pytest.mark.parametrize(
  ("changed", "row", "text"),
  [
    (
      {"vector": np.zeros(4, np.float32)},
      0,
      r"'vector' \[4\], the ticks before it have 'vector' \[",
    ),
    ({"vector": np.zeros(4, np.float32)}, 1, r"row 1 has 'vector' \[4\], the ticks"),
    ({"depth": np.zeros((2, 3))}, 0, r"row 0 has 'depth' \[2, 3\], .* have no 'depth'; give all"),
  ],
)
def test_ticks_of_another_shape_are_named(changed, row, text):
  """A source of one's own may change the size of its pictures midway."""

  class Changing(CountingIterator):
    def __next__(self):
      tick = super().__next__()
      return tick | changed if self.at == 5 and self.source.start == row else tick

  class Source(Counting):
    def __iter__(self):
      return Changing(self)

  windows = iter(streams.windows([Source(9, start=0), Source(9, start=1)], 2, 1))
  with pytest.raises(ValueError, match=text):
    list(windows)


def test_state_holds_no_arrays():
  config = synthetic.Config(max_ticks=60)
  _, states = elements_and_states(streams.windows(streams.open_rows(config, 2)))
  assert all(len(json.dumps(state)) < 300 for state in states)


def test_no_tick_at_all_is_no_window():
  assert list(streams.windows([Counting(0), Counting(0)])) == []


@pytest.mark.parametrize(
  ("args", "text"),
  [
    (([], 8, 16), "no rows; give at least one"),
    (([Counting(3)], 0, 16), "window=0, max_displacement=16"),
    (([Counting(3)], 8, -1), "max_displacement=-1"),
  ],
)
def test_wrong_arguments_are_named(args, text):
  with pytest.raises(ValueError, match=text):
    streams.windows(*args)


def test_a_state_of_another_number_of_rows_is_refused():
  state = iter(streams.windows([Counting(3)])).get_state()
  with pytest.raises(ValueError, match="has 1 rows, this has 2; use the number of rows"):
    iter(streams.windows([Counting(3), Counting(3)])).set_state(state)
  with pytest.raises(ValueError, match="windows: the state to restore has"):
    iter(streams.windows([Counting(3)])).set_state({"at": 3})


# --- prefetch -------------------------------------------------------------------------------------


def settled(source):
  """Returns how many ticks were made when no more are being made."""
  before = -1
  while source.made != before:
    before = source.made
    time.sleep(0.1)
  return before


@pytest.mark.parametrize("depth", [1, 4])
def test_a_slow_consumer_stops_the_reader(depth):
  source = Counting(10_000)
  iterator = iter(streams.prefetch(source, depth))
  next(iterator)
  assert settled(source) <= 1 + depth + 1  # consumed, waiting, in hand
  next(iterator)
  assert settled(source) <= 2 + depth + 1
  iterator.close()


def test_the_state_is_that_of_what_was_consumed():
  source = Counting(100)
  iterator = iter(streams.prefetch(source, 8))
  for number in range(5):
    assert iterator.get_state() == {"at": number}
    next(iterator)
  settled(source)
  assert iterator.get_state() == {"at": 5}
  iterator.set_state({"at": 50})
  assert next(iterator)["vector"] == 50
  iterator.close()


def test_what_goes_wrong_in_the_reader_is_raised_at_its_place():
  iterator = iter(streams.prefetch(Counting(10, fail_at=3), 8))
  assert [next(iterator)["vector"][0] for _ in range(3)] == [0, 1, 2]
  for _ in range(2):  # and again, rather than hang
    with pytest.raises(OSError, match="disk is on fire"):
      next(iterator)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError("all gone")])
def test_what_would_end_the_reader_s_thread_reaches_the_consumer(error):
  class Ending(CountingIterator):
    def __next__(self):
      if self.at == 2:
        raise error
      return super().__next__()

  class Source(Counting):
    def __iter__(self):
      return Ending(self)

  iterator = iter(streams.prefetch(Source(9), 8))
  next(iterator), next(iterator)
  with pytest.raises(type(error)) as found:
    next(iterator)
  assert found.value.args == error.args
  iterator.close()


def test_the_end_stays_the_end():
  iterator = iter(streams.prefetch(Counting(3), 8))
  assert len(list(iterator)) == 3
  assert next(iterator, "over") == "over"


def test_waiting_is_counted():
  slow = iter(streams.prefetch(Counting(5, sleep_s=0.02), 2))
  start = time.perf_counter()
  assert len(list(slow)) == 5
  assert 0.08 < slow.waiting_s <= time.perf_counter() - start
  ready = iter(streams.prefetch(Counting(5), 8))
  next(ready)
  settled(ready._ahead[0]._maybe_nonnative_parent._iterator.source)
  before = ready.waiting_s
  assert len(list(ready)) == 4
  assert ready.waiting_s - before < 0.05


def test_closing_ends_the_thread():
  before = set(threading.enumerate())
  iterator = iter(streams.prefetch(Counting(10**6), 2))
  next(iterator)
  assert set(threading.enumerate()) - before
  iterator.close()
  iterator.close()
  assert not set(threading.enumerate()) - before
  with pytest.raises(ValueError, match="closed iterator"):
    next(iterator)


def test_a_program_ends_with_an_iterator_still_open():
  """Python 3.13 hung here: joining a daemon thread at shutdown never returns."""
  program = (
    "from perceiver_stream import streams\n"
    "rows = streams.open_rows(streams.synthetic.Config(height=8, width=8), 1)\n"
    "ticks = iter(streams.prefetch(rows[0]))\n"
    "next(ticks)\n"
  )
  subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_depth_must_be_positive():
  with pytest.raises(ValueError, match="prefetch: depth=0; use at least 1"):
    streams.prefetch(Counting(3), 0)


def test_a_stream_that_stalls_is_said_and_waited_for(caplog, monkeypatch):
  monkeypatch.setattr(sys.modules["perceiver_stream.streams.prefetch"], "STALL_S", 0.2)
  with caplog.at_level(logging.WARNING):
    iterator = iter(streams.prefetch(Counting(2, sleep_s=0.5), 2))
    assert len(list(iterator)) == 2
    iterator.close()
  assert "The stream has given nothing for 0.2 s; waiting for it." in caplog.text
