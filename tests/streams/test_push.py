"""Pushed frames: order, bounds, policies, errors."""

import gc
import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import live, mixture
from perceiver_stream.streams.live_buffer import POLICIES, Buffer, EndOfSource, LiveTick
from perceiver_stream.types import ModalitySpec

SPECS = {
  "pixels": ModalitySpec(shape=(2, 3, 3), dtype="uint8", maximum=255.0),
  "imu": ModalitySpec(shape=(2,), minimum=0.0, maximum=0.0),
}


def frame(number):
  return np.full((2, 3, 3), number, np.uint8)


def numbers(ticks):
  return [int(tick["pixels"][0, 0, 0]) for tick in ticks]


def push(**fields):
  return live.Push(SPECS, **{"when_faster": "wait", "buffer": 100, "timeout_s": 60.0} | fields)


def test_each_value_of_the_first_name_is_a_tick_with_the_newest_of_the_others():
  stream = push()
  stream.put("imu", [1.0, 2.0], 99.9)
  stream.put("imu", [3.0, 4.0], 100.05)  # after the first frame: not in its tick
  for number, time_s in enumerate((100.0, 100.1, 100.2)):
    assert stream.put("pixels", frame(number), time_s)
  stream.close()
  ticks = list(stream)
  assert numbers(ticks) == [0, 1, 2]
  assert [tick["imu"].tolist() for tick in ticks] == [[1, 2], [3, 4], [3, 4]]
  assert [bool(tick["imu_valid"]) for tick in ticks] == [True, True, False]
  assert [bool(tick["is_first"]) for tick in ticks] == [True, False, False]
  np.testing.assert_allclose([tick["timestamp_s"] for tick in ticks], [0, 0.1, 0.2], atol=1e-9)
  for name, spec in streams.specs(stream.config()).items():
    assert all((tick[name].shape, tick[name].dtype) == (spec.shape, spec.dtype) for tick in ticks)


@pytest.mark.parametrize(
  ("fields", "given"),
  [
    ({"when_faster": "newest"}, [9]),
    ({"when_faster": "wait"}, list(range(10))),
    ({"when_faster": "every", "every": 3}, [0, 3, 6, 9]),
    ({"when_faster": "every", "every": 3, "buffer": 2}, [6, 9]),
    ({"when_faster": "every", "every": 1, "buffer": 4}, [6, 7, 8, 9]),
  ],
)
def test_policies_where_the_model_is_slower(fields, given):
  stream = push(**fields)
  for number in range(10):
    stream.put("pixels", frame(number), number / 10)
  stream.close()
  iterator = iter(stream)
  ticks = list(iterator)
  assert numbers(ticks) == given and ticks[0]["is_first"]
  assert stream.dropped == iterator.dropped == 10 - len(given)
  assert iterator.get_state()["dropped"] == 10 - len(given)


def test_a_thread_that_waits_loses_nothing_and_keeps_the_order():
  stream = push(buffer=2)

  def produce():
    try:
      for number in range(200):
        assert stream.put("pixels", frame(number), number / 25)
        assert len(stream.buffer._kept) <= 2
    finally:
      stream.close()

  thread = threading.Thread(target=produce, daemon=True)
  thread.start()
  ticks = list(stream)
  thread.join(60)
  assert not thread.is_alive()
  assert numbers(ticks) == list(range(200)) and stream.dropped == 0


def test_waiting_has_an_end():
  stream = push(buffer=1, timeout_s=0.05)
  stream.put("pixels", frame(0), 0)
  with pytest.raises(TimeoutError, match="took no tick for timeout_s=0.05.*when_faster='newest'"):
    stream.put("pixels", frame(1), 1)


def test_a_put_that_found_no_room_can_be_repeated():
  stream = push(buffer=1, timeout_s=0.05)
  stream.put("pixels", frame(0), 0)
  stream.put("imu", [1.0, 2.0], 0.5)
  for _ in range(2):
    with pytest.raises(TimeoutError, match="took no tick"):
      stream.put("pixels", frame(1), 1)
  iterator = iter(stream)
  first = next(iterator)
  assert stream.put("pixels", frame(1), 1)
  second = next(iterator)
  assert numbers([first, second]) == [0, 1] and second["imu_valid"] and not first["imu_valid"]
  assert stream.images == iterator.images == 2 and stream.dropped == 0


def test_threads_that_put_ticks_keep_their_order():
  stream, counter, results = push(buffer=2), itertools.count(), []

  def produce():
    while (number := next(counter)) < 200:
      try:
        results.append(stream.put("pixels", frame(number % 256), number / 25))
      except ValueError as error:  # the other thread was quicker
        assert "increase" in str(error)

  threads = [threading.Thread(target=produce, daemon=True) for _ in range(2)]
  for thread in threads:
    thread.start()
  closer = threading.Thread(target=lambda: [t.join(60) for t in threads] and stream.close())
  closer.daemon = True
  closer.start()
  found = numbers(stream)
  closer.join(60)
  assert not any(thread.is_alive() for thread in (*threads, closer))
  assert found == sorted(set(found)) and len(found) == len(results) == stream.images


def test_a_put_that_waits_is_let_go_by_closing():
  stream, results = push(buffer=1), []
  stream.put("pixels", frame(0), 0)
  thread = threading.Thread(target=lambda: results.append(stream.put("pixels", frame(1), 1)))
  thread.daemon = True
  thread.start()
  stream.close()
  thread.join(60)
  assert not thread.is_alive() and stream.images == 1
  assert results == [False] and not stream.put("pixels", frame(2), 2)
  assert numbers(list(stream)) == [0]


def test_a_silent_stream_ends(caplog):
  stream = push(timeout_s=0.05, name="quiet")
  with pytest.raises(
    live.LiveError, match=r"no tick from live.Push 'quiet': nothing came for 0\.05"
  ):
    next(iter(stream))
  stream = push(timeout_s=0.05)
  stream.put("pixels", frame(0), 0)
  assert len(list(stream)) == 1 and "nothing came for 0.05 s. 1 ticks were given" in caplog.text


def test_where_the_source_is_slower_the_last_tick_is_repeated_as_not_valid():
  stream = push(repeat_after_s=0.02)
  stream.put("pixels", frame(7), 5.0)
  iterator = iter(stream)
  ticks = [next(iterator) for _ in range(3)]
  stream.put("pixels", frame(8), 5.001)  # late: the clock does not go back
  late = next(tick for tick in iterator if tick["pixels_valid"])
  assert numbers([*ticks, late]) == [7, 7, 7, 8]
  assert [bool(tick["pixels_valid"]) for tick in ticks] == [True, False, False]
  assert not any(tick["is_first"] for tick in (*ticks[1:], late))
  np.testing.assert_allclose([tick["timestamp_s"] for tick in ticks], [0, 0.02, 0.04])
  assert late["timestamp_s"] >= 0.04


@pytest.mark.parametrize(
  ("name", "value", "time_s", "text"),
  [
    ("sound", 0.0, 1, r"no 'sound' in specs; use one of \['pixels', 'imu'\]"),
    ("pixels", np.zeros((3, 2, 3), np.uint8), 1, r"uint8 \[3, 2, 3\], expected uint8 \[2, 3, 3\]"),
    ("pixels", np.zeros((2, 3, 3)), 1, r"is float64 .*expected uint8 .*; convert it"),
    ("imu", ["a", "b"], 1, "expected float32"),
    ("imu", [1.0, np.nan], 1, "NaN or infinity; put nothing"),
    ("imu", [1.0, np.inf], 1, "NaN or infinity"),
    ("pixels", frame(0), 0.5, r"time_s=0\.5 after 0\.5; times of a name must .*increase"),
    ("pixels", frame(0), 0.4, r"time_s=0\.4 after 0\.5"),
    ("pixels", frame(0), float("nan"), "time_s=nan"),
  ],
)
def test_wrong_values_are_refused_and_change_nothing(name, value, time_s, text):
  stream = push()
  stream.put("pixels", frame(1), 0.5)
  with pytest.raises(ValueError, match=text):
    stream.put(name, value, time_s)
  stream.put("pixels", frame(2), 0.6)
  stream.close()
  assert numbers(list(stream)) == [1, 2]


def test_nan_can_be_declared_as_no_reading():
  stream = push(may_be_nan=("imu",))
  assert stream.put("imu", [np.nan, 1.0], 0)


def test_values_are_copied():
  stream, picture = push(), frame(1)
  stream.put("pixels", picture, 0)
  picture[:] = 9
  assert numbers([next(iter(stream))]) == [1]


def test_the_state_is_a_time_and_the_next_tick_is_first():
  stream = push(rate_hz=10.0)
  for number in range(3):
    stream.put("pixels", frame(number), 50 + number / 10)
  iterator = iter(stream)
  for _ in range(3):
    next(iterator)
  state = iterator.get_state()
  other = push(rate_hz=10.0)
  again = iter(other)
  again.set_state(state)
  other.put("pixels", frame(9), 7.0)  # of another clock
  other.put("pixels", frame(10), 7.1)
  ticks = [next(again), next(again)]
  assert [bool(tick["is_first"]) for tick in ticks] == [True, False]
  np.testing.assert_allclose([tick["timestamp_s"] for tick in ticks], [0.3, 0.4])
  assert again.get_state()["count"] == 5


def test_a_second_reader_continues_where_the_first_stopped():
  stream = push()
  stream.put("pixels", frame(0), 0)
  with_limit = iter(streams.open_rows(stream.config(max_ticks=1))[0])
  assert numbers(list(with_limit)) == [0]
  assert not stream.put("pixels", frame(1), 1), "nobody reads"
  other = iter(stream)
  thread = threading.Thread(target=lambda: [stream.put("pixels", frame(2), 2), stream.close()])
  thread.daemon = True
  stream.start()
  thread.start()
  assert numbers(list(other)) == [2]
  thread.join(60)
  assert not thread.is_alive()


@pytest.mark.parametrize("end", ["close", "del"])
def test_a_reader_before_does_not_cut_off_the_reader_of_now(end):
  stream = push()
  stream.put("pixels", frame(0), 0)
  one = iter(streams.open_rows(stream.config(max_ticks=1))[0])
  assert numbers(list(one)) == [0]
  two = iter(stream)
  stream.start()
  stream.put("pixels", frame(1), 1)
  assert numbers([next(two)]) == [1]
  if end == "close":
    one.close()
  del one
  gc.collect()
  assert stream.put("pixels", frame(2), 2) and numbers([next(two)]) == [2]
  del two
  gc.collect()
  assert not stream.put("pixels", frame(3), 3), "nobody reads"


def test_a_resumed_reader_counts_what_was_dropped_once():
  """Also what waited when its reader stopped was not dropped."""
  stream = push(when_faster="every", every=1, buffer=2)
  first = iter(stream)
  for number in range(6):
    stream.put("pixels", frame(number), number)
  assert numbers([next(first)]) == [4]
  assert first.dropped == stream.dropped == 4 and first.images == 6
  state = first.get_state()
  first.close()
  again = iter(stream)
  again.set_state(state)
  stream.start()
  assert stream.dropped == 4 and state["dropped"] == again.dropped == 4
  stream.put("pixels", frame(6), 6)
  assert numbers([next(again)]) == [6] and again.images == 1
  for number in range(7, 10):
    stream.put("pixels", frame(number), number)
  assert numbers([next(again)]) == [8]
  assert again.dropped == again.get_state()["dropped"] == stream.dropped == 5
  assert (first.dropped, first.images) == (4, 6)


def test_a_name_is_found_while_the_stream_is_kept():
  stream = live.Push(SPECS, name="robot")
  config = live.Config(source="push:robot", audio_rate_hz=0)
  assert streams.specs(config) == SPECS
  stream.put("pixels", frame(3), 0)
  assert numbers([next(iter(streams.open_rows(config)[0]))]) == [3]
  del stream
  with pytest.raises(ValueError, match="no live.Push named 'gone' in this process; make it first"):
    streams.specs(live.Config(source="push:gone"))


@pytest.mark.parametrize("mixed", [False, True])
def test_closing_windows_does_not_wait_for_a_silent_stream(mixed, caplog):
  stream = push(timeout_s=600.0)
  config = mixture.Config(sources={"robot": stream.config()}) if mixed else stream.config()
  windows = iter(streams.prefetch(streams.windows(streams.open_rows(config), 1, 0), 1))
  stream.put("pixels", frame(1), 0)
  assert next(windows)["pixels"].shape == (1, 1, 2, 3, 3)
  closer = threading.Thread(target=windows.close, daemon=True)
  closer.start()
  closer.join(60)
  assert not closer.is_alive() and "its reader stopped. 1 ticks were given" in caplog.text
  assert not stream.put("pixels", frame(2), 1), "nobody reads"


def test_a_name_is_of_one_stream():
  one, other = live.Push(SPECS), live.Push(SPECS)
  sources = [stream.config().source for stream in (one, other)]
  assert len({*sources}) == 2 and all(source.startswith("push:push") for source in sources)
  other.put("pixels", frame(5), 0)
  one.put("pixels", frame(4), 0)
  found = [next(iter(streams.open_rows(stream.config())[0])) for stream in (one, other)]
  assert numbers(found) == [4, 5]
  kept = live.Push(SPECS, name="arm")
  with pytest.raises(ValueError, match="name='arm' is that of another stream.*use another name"):
    live.Push(SPECS, name="arm")
  assert kept.config().source == "push:arm"


def test_a_push_needs_specs_and_a_policy_that_exists():
  with pytest.raises(ValueError, match="specs is empty"):
    live.Push({})
  with pytest.raises(ValueError, match="when_faster='oldest'; use one of"):
    live.Push(SPECS, when_faster="oldest")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(5))
def test_what_was_put_was_given_waits_or_is_counted_as_dropped(policy, seed):
  rng = np.random.default_rng(seed)
  buffer, shown, given, pictures = Buffer(policy, 2, 3), 0, [], set()
  for time in range(100):
    shown += int(rng.integers(2))  # a picture may be in several ticks
    is_first = bool(rng.random() < 0.1)
    if policy != "wait" or len(buffer._kept) < 3:
      assert buffer.put(LiveTick({}, is_first, Fraction(time), shown))
      pictures.add(shown)
    if rng.random() < 0.4 and (tick := buffer.take(0.0)) is not None:
      given.append(tick)
  waiting = {tick.image for tick in buffer._kept}
  assert [tick.time for tick in given] == sorted(tick.time for tick in given)
  assert buffer.dropped == len(pictures - waiting - {tick.image for tick in given})
  assert len(buffer._kept) <= 3
  buffer.close("so")
  assert not buffer.put(LiveTick({}, False, Fraction(101), shown))
  while buffer._kept:
    buffer.take(0.0)
  with pytest.raises(EndOfSource, match="so"):
    buffer.take(0.0)


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_a_gap_is_not_dropped_with_its_tick(policy):
  buffer = Buffer(policy, 1, 1)
  for number in range(3):
    buffer.put(LiveTick({}, number == 1, Fraction(number), number))
  tick = buffer.take(0.0)
  assert tick is not None and tick.image == 2 and tick.is_first
