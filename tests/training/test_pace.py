"""Learning becomes rarer by stated rules where a live stream is faster; time is simulated."""

import json
import threading

import jax
import numpy as np
import pytest
from training_fakes import AHEAD, DIM, HOP, make_config, make_parts

from perceiver_stream import streams
from perceiver_stream.reporting import run_files
from perceiver_stream.streams import live
from perceiver_stream.streams.wrapped import dropped, is_live
from perceiver_stream.training.loop import Learner, train
from perceiver_stream.training.pace import LONGEST_PATIENCE, PATIENCE, PERIOD, RAREST, Pace
from perceiver_stream.types import ModalitySpec

WINDOW = 2


class Source:
  """A camera on a simulated clock of whole microseconds; the newest of its images wins."""

  def __init__(self, tick_us):
    self.tick_us, self.now, self.given, self.dropped = tick_us, 0, 0, 0

  def next(self):
    """Waits for an image that was not given yet; those before it are dropped."""
    newest = self.now // self.tick_us
    if newest <= self.given:
      newest = self.given + 1
      self.now = newest * self.tick_us
    self.dropped += newest - self.given - 1
    self.given = newest


def simulate(windows, tick_us, learn_us, watch_us):
  """Returns the pace, the source, and what was stated at which window."""
  pace, source, stated = Pace(), Source(tick_us), {}
  pace.begin(0)
  for number in range(windows):
    cost = learn_us(number) if callable(learn_us) else learn_us
    cost = cost if pace.learns() else watch_us
    for _ in range(WINDOW):  # a tick is taken while the one before it is computed
      source.next()
      source.now += cost // WINDOW
    if change := pace.after(source.dropped):
      stated[number + 1] = change
  return pace, source, stated


def test_a_learner_that_keeps_up_learns_from_every_window_and_states_nothing():
  pace, source, stated = simulate(200, 80_000, 150_000, 50_000)
  assert (pace.every, pace.learned, pace.watched) == (1, 200, 0)
  assert source.dropped == 0 and not stated


@pytest.mark.parametrize("learn_us", [180_000, 200_000, 220_000])
def test_a_learner_that_is_too_slow_learns_from_every_other_window(learn_us):
  pace, source, stated = simulate(400, 80_000, learn_us, 40_000)
  always = simulate(400, 80_000, learn_us, learn_us)[1]
  assert pace.every <= 4 and pace.watched > 0.3 * 400
  assert source.dropped < 0.5 * always.dropped
  assert pace.dropped == source.dropped
  assert any("dropped in 8 windows" in text for text in stated.values())


def test_each_change_is_stated_with_its_counts_and_trials_become_rarer():
  slow_until = 4 * PERIOD
  pace, source, stated = simulate(
    4000, 80_000, lambda n: 400_000 if n < slow_until else 100_000, 40_000
  )
  assert stated[PERIOD].startswith("The stream is faster than the learner: ")
  assert "One window of 2 is learned from, the others are only watched." in stated[PERIOD]
  assert list(stated.values())[-1].endswith("Every window is learned from.")
  assert pace.every == 1 and pace.learned + pace.watched == 4000
  assert pace.counts()["dropped"] == source.dropped > 0
  trials = simulate(9000, 80_000, 400_000, 40_000)[2]
  raised = [n for n, text in trials.items() if text.startswith("No image dropped")]
  gaps = np.diff(raised)
  assert all(b >= a for a, b in zip(gaps[:-1], gaps[1:], strict=True))


def test_dropping_where_learning_cannot_become_rarer_is_stated_once():
  pace, source, stated = simulate(400, 80_000, 900_000, 900_000)
  assert pace.every == RAREST and source.dropped > 0
  last = list(stated.values())[-1]
  assert "images will be dropped: use a smaller model or a lower rate_hz" in last
  assert len(stated) == 4  # 2, 4, 8, and that it stays so


def test_images_dropped_while_compiling_do_not_count():
  pace = Pace()
  pace.begin(1000)
  for _ in range(PERIOD):
    assert pace.learns() and not pace.after(1000)
  assert pace.dropped == 0 and PATIENCE < LONGEST_PATIENCE


def pushed(count):
  """Returns a stream whose source waits for the reader, and a thread that pushes into it."""
  specs = {"x": ModalitySpec(shape=(DIM,), minimum=0.0, maximum=0.0)}
  push = live.Push(specs, rate_hz=10.0, when_faster="wait", buffer=4, timeout_s=600.0)

  def produce():
    tick = 0
    while tick < count and push.put("x", np.sin(0.3 * (tick + np.arange(DIM))), tick / 10):
      tick += 1

  return push, threading.Thread(target=produce, daemon=True)


def test_a_run_on_a_live_stream_counts_what_it_learned_from(tmp_path, monkeypatch):
  monkeypatch.setattr(Pace, "learns", lambda pace: _every_second(pace))
  push, thread = pushed(10**6)
  windows = streams.prefetch(streams.windows([push], HOP, AHEAD), 1)
  iterator = iter(windows)
  assert is_live(iterator) and dropped(iterator) == 0
  iterator.close()
  thread.start()
  config = make_config(tmp_path, max_windows=5)
  summary = train(config, make_parts(config, windows))
  thread.join(60)
  assert summary.windows == 5
  records = run_files.read_lines(tmp_path / run_files.METRICS).records
  assert [r.get("learned", True) for r in records] == [True, False, True, False, True]
  assert all((r["grad_norm"] is None) == (not r.get("learned", True)) for r in records)
  written = json.loads((tmp_path / run_files.SUMMARY).read_text())
  assert written["pace"] == {"learned": 3, "watched": 2, "dropped": 0}


def _every_second(pace):
  is_learned = (pace.learned + pace.watched) % 2 == 0
  pace.learned, pace.watched = pace.learned + is_learned, pace.watched + (not is_learned)
  return is_learned


def test_watching_advances_the_state_and_scores_as_learning_does_but_changes_no_parameter(tmp_path):
  config = make_config(tmp_path, max_windows=2)
  parts = make_parts(config)
  window = next(iter(parts.windows))
  watching, learning = Learner(parts), Learner(parts)
  before = {k: np.asarray(v) for k, v in _leaves(watching.state.params)}
  watching.compile_watching(window)
  seen, learned = watching.learn(window, update=False), learning.learn(window)
  assert all(np.array_equal(before[k], v) for k, v in _leaves(watching.state.params))
  for a, b in zip(
    _leaves(watching.state.model_state), _leaves(learning.state.model_state), strict=True
  ):
    np.testing.assert_allclose(a[1], b[1], rtol=1e-6)
  np.testing.assert_allclose(seen.loss, learned.loss, rtol=1e-6)
  assert np.isnan(seen.grad_norm) and bool(seen.finite) and int(watching.state.windows) == 1


def _leaves(tree):
  return [(str(i), np.asarray(x)) for i, x in enumerate(jax.tree.leaves(tree))]


def test_images_dropped_while_nothing_is_to_be_learned_do_not_count():
  pace = Pace()
  pace.begin(0)
  pace.leave_out(500)
  for _ in range(PERIOD):
    assert pace.learns()
    assert not pace.after(500)
  assert (pace.every, pace.dropped) == (1, 0)
