"""Learning from frames while a thread pushes them; stopping and resuming such a run."""

import threading
from types import SimpleNamespace

import numpy as np
from training_fakes import AHEAD, DIM, HOP, make_config, make_parts

from perceiver_stream import streams
from perceiver_stream.inference.model_loading import Loaded, watch
from perceiver_stream.reporting import run_files
from perceiver_stream.streams import live
from perceiver_stream.training.loop import train
from perceiver_stream.types import ModalitySpec

SPECS = {"x": ModalitySpec(shape=(DIM,), minimum=0.0, maximum=0.0)}


def pushed(start_s):
  """Returns a stream, and a thread that pushes into it until nobody reads any more."""
  push = live.Push(SPECS, rate_hz=10.0, when_faster="wait", buffer=4, timeout_s=600.0)

  def produce():
    tick = 0
    while push.put("x", np.sin(0.3 * (tick + np.arange(DIM))), start_s + tick / 10):
      tick += 1

  return push, threading.Thread(target=produce, daemon=True)


def learn(folder, max_windows, start_s):
  push, thread = pushed(start_s)
  windows = streams.prefetch(streams.windows([push], HOP, AHEAD), 1)
  thread.start()
  config = make_config(folder, max_windows=max_windows)
  summary = train(config, make_parts(config, windows))
  thread.join(60)
  assert not thread.is_alive()
  return summary


def test_pushed_frames_are_watched():
  push, thread = pushed(0.0)
  windows = iter(streams.windows([push], HOP, 0))
  thread.start()
  model = SimpleNamespace(modalities={}, unroll=lambda _, count, window, ahead: (window, count + 1))
  watched = watch(Loaded(model, {}, None, ""), windows, state=0)
  for number in range(3):
    window, outputs, count = next(watched)
    assert count == number + 1 and outputs["x"] is window["x"]
    times = (np.arange(HOP) + number * HOP) / 10
    np.testing.assert_allclose(window["timestamp_s"][:, 0], times, atol=1e-9)
  windows.close()
  thread.join(60)
  assert not thread.is_alive()


def test_a_run_on_pushed_frames_learns_stops_and_resumes_at_a_time(tmp_path):
  assert learn(tmp_path, 3, 100.0).windows == 3
  summary = learn(tmp_path, 5, 7000.0)  # another session of the source, with another clock
  assert summary.windows == 5 and summary.finished
  records = run_files.read_lines(tmp_path / run_files.METRICS).records
  assert [record["window"] for record in records] == [1, 2, 3, 4, 5]
  assert all(np.isfinite(record["loss"]) for record in records)
