"""Learning of a page's model: rarer where images are dropped, refused after a step that failed."""

from concurrent.futures import Future
from types import SimpleNamespace

import extras
import live_sessions
import numpy as np
import pytest

from perceiver_stream.serving.learning import PENDING
from perceiver_stream.training.pace import PATIENCE, PERIOD

extras.need("fastapi", "uvicorn", "websockets")

SIDE = live_sessions.SIDE


def test_after_a_failed_step_learning_and_saving_are_refused(tmp_path, monkeypatch) -> None:
  session = live_sessions.make_session()
  learner = session.learner
  assert learner is not None
  ticks = [({"is_first": np.zeros(1, bool), "pixels": np.zeros((1, SIDE, SIDE, 3), np.uint8)}, ())]

  def failing(error: str, owner: str) -> None:
    def fail(*args: object) -> None:
      raise RuntimeError(error)

    monkeypatch.setattr(learner, owner, fail)
    for _ in range(8):
      learner.offer(*ticks[0])
    assert not learner.is_on and error in learner.problem

  failing("a bad window", "_start")  # before the step: the parameters are kept
  session.set_learning(True)
  assert learner.is_on and not learner.problem and not learner.is_lost
  monkeypatch.setattr(learner, "_start", lambda ticks: learner._state.model_state)
  failing("out of memory", "_step")
  with pytest.raises(ValueError, match="learn: the parameters were lost.*restart the server"):
    session.set_learning(True)
  with pytest.raises(ValueError, match="save: the parameters were lost"):
    session.save(tmp_path)
  session.set_learning(False)
  assert "out of memory" in learner.problem and not list(tmp_path.iterdir())
  session.close()


def test_where_images_are_dropped_fewer_windows_are_learned_by_the_rules_of_training(
  monkeypatch, caplog
) -> None:
  session = live_sessions.make_session()
  learner, info = session.learner, SimpleNamespace(loss=0.0, grad_norm=0.0, skipped=0, bad_run=0)
  assert learner is not None
  monkeypatch.setattr(learner, "_learn", lambda ticks, rate: ((), info))

  def learned_in(windows: int, dropped: int) -> int:
    """Returns how many of so many windows were learned from."""
    pace, before = learner.pace, learner.progress.updates
    until = pace.learned + pace.watched + windows
    while pace.learned + pace.watched < until:
      learner.offer({}, (), dropped)
    return learner.progress.updates - before

  assert learned_in(PERIOD, 40) == PERIOD  # dropped before the program was compiled
  assert learned_in(PERIOD, 41) == PERIOD and learned_in(PERIOD, 41) == PERIOD // 2
  assert "One window of 2 is learned from" in caplog.text
  learned_in((PATIENCE - 1) * PERIOD, 41)
  assert learned_in(PERIOD, 41) == PERIOD and "Every window is learned from." in caplog.text
  monkeypatch.setattr(learner, "_waits", False)
  learner._pending.append(Future())  # a window that takes long
  monkeypatch.setattr(learner._thread, "submit", lambda *_: Future())
  learned, watched = learner.pace.learned, learner.pace.watched
  assert learned_in(PERIOD, 41) == 0
  assert learner.pace.learned == learned + 1  # one more waits, the others are left out
  assert learner.pace.watched == watched + PERIOD - 1 and len(learner._pending) == PENDING
  session.close()
