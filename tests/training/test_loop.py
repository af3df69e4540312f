import itertools
import json
import os
import signal
import time

import jax
import numpy as np
import pytest
from training_fakes import DIM, Beside, Windows, make_config, make_parts

from perceiver_stream import modalities
from perceiver_stream.modalities import vector
from perceiver_stream.reporting import run_files
from perceiver_stream.training import checkpoint_files
from perceiver_stream.training.arrays import flatten
from perceiver_stream.training.checkpoints import CheckpointError
from perceiver_stream.training.loop import Learner, NonFiniteError, train
from perceiver_stream.training.mesh import MeshConfig
from perceiver_stream.training.run_folder import CHECKPOINTS, steps


def run(folder, windows=None, baselines=None, **fields):
  config = make_config(folder, **fields)
  return train(config, make_parts(config, windows, baselines))


def lines(folder):
  return (folder / run_files.METRICS).read_bytes()


def final_arrays(folder):
  config = make_config(folder)
  learner = Learner(make_parts(config))
  newest = steps(folder / CHECKPOINTS)[-1]
  restored = checkpoint_files.read(folder / CHECKPOINTS, newest, learner.trees())
  return flatten(restored.trees) | {"step": np.array(newest)}


def assert_same_run(a, b):
  assert lines(a) == lines(b)
  left, right = final_arrays(a), final_arrays(b)
  assert left.keys() == right.keys()
  for name in left:
    np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_a_run_learns_and_says_so(tmp_path):
  config = make_config(tmp_path)
  config.optimizer.learning_rate, config.checkpoints.every = 0.1, 1000
  summary = train(config, make_parts(config, Windows(total=150)))
  assert summary.finished and summary.windows == 150 and summary.skipped == 0
  records = run_files.read_lines(tmp_path / run_files.METRICS).records
  assert [r["window"] for r in records] == list(range(1, 151))
  losses = [r["loss"] for r in records]
  assert np.mean(losses[-30:]) < 0.75 * np.mean(losses[:10])
  assert records[-1]["scores"]["x@1"]["count"] == 4
  written = json.loads((tmp_path / "summary.json").read_text())
  assert written["windows"] == 150 and 0 <= written["wait_share"] <= 1


@pytest.mark.parametrize("stop_at", [1, 3, 5])
@pytest.mark.parametrize("cadence", [1, 2])
def test_resumed_is_never_stopped(tmp_path, stop_at, cadence):
  def go(folder, windows):
    config = make_config(folder, max_windows=windows)
    config.optimizer.cadence = cadence
    return train(config, make_parts(config))

  go(tmp_path / "whole", 8)
  go(tmp_path / "parts", stop_at)
  assert go(tmp_path / "parts", 8).windows == 8
  if cadence == 1:
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
  assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


class Killed(Exception):
  pass


def test_killed_between_saves_repeats_what_was_lost(tmp_path):
  run(tmp_path / "whole", max_windows=8)

  def kill(window, calls=[]):  # noqa: B006
    calls.append(window)
    if len(calls) == 6:
      raise Killed
    return {}

  with pytest.raises(Killed):
    run(tmp_path / "parts", baselines=Beside(kill), max_windows=8)
  with (tmp_path / "parts" / run_files.METRICS).open("ab") as file:
    file.write(b'{"window": 99, "cut sho')
  assert run(tmp_path / "parts", max_windows=8).windows == 8
  assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_has_nothing_to_do(tmp_path):
  first = run(tmp_path)
  before = lines(tmp_path)
  again = run(tmp_path)
  assert again.finished and again.windows == first.windows and lines(tmp_path) == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_finish_the_window_save_and_resume(tmp_path, name, capsys):
  run(tmp_path / "whole", max_windows=8)

  def interrupt(window, calls=[]):  # noqa: B006
    calls.append(window)
    if len(calls) == 4:
      os.kill(os.getpid(), getattr(signal, name))
    return {}

  before = signal.getsignal(getattr(signal, name))
  summary = run(tmp_path / "parts", baselines=Beside(interrupt), max_windows=8)
  assert summary.stopped_by == name and not summary.finished and summary.windows < 8
  assert f"--resume={tmp_path / 'parts'}" in capsys.readouterr().out
  assert signal.getsignal(getattr(signal, name)) is before
  run(tmp_path / "parts", max_windows=8)
  assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_clock_on_the_wall_that_jumps_changes_nothing(tmp_path, monkeypatch):
  run(tmp_path / "steady")
  leaps, right = itertools.cycle([100.0, -100.0, 0.0, 30.0]), time.time
  monkeypatch.setattr(time, "time", lambda: right() + next(leaps))
  run(tmp_path / "leaping", max_windows=5)
  run(tmp_path / "leaping")
  assert_same_run(tmp_path / "steady", tmp_path / "leaping")
  for line in run_files.read_lines(tmp_path / "leaping" / run_files.TIMING).records:
    assert line["windows_per_s"] > 0 and 0 <= line["wait_share"] <= 1


def test_a_bad_window_is_skipped_counted_and_leaves_no_trace(tmp_path):
  summary = run(tmp_path, Windows(total=9, bad=(4,)))
  assert summary.finished and summary.skipped == 1
  records = run_files.read_lines(tmp_path / run_files.METRICS).records
  assert records[4]["loss"] is None and records[4]["scores"]["x@1"]["model"] is None
  assert [r["skipped"] for r in records] == [0] * 4 + [1] * 5
  assert all(r["loss"] is not None for r in records if r["window"] != 5)


def test_observations_that_are_not_finite_are_not_valid_and_counted(tmp_path):
  """With the modality known nothing is skipped, and a resumed run counts as one never stopped."""
  known = {"x": modalities.build("x", vector.Config(size=DIM))}

  def go(folder, windows):
    config = make_config(folder, max_windows=windows)
    parts = make_parts(config, Windows(total=9, bad=(2, 5)), modalities=known)
    with pytest.warns(modalities.NonFiniteWarning, match="'x' is not finite.*invalid") as found:
      summary = train(config, parts)
    assert len([w for w in found if w.category is modalities.NonFiniteWarning]) == 1
    return summary

  assert go(tmp_path / "whole", 9).skipped == 0
  records = run_files.read_lines(tmp_path / "whole" / run_files.METRICS).records
  counts = [record.get("non_finite", {}).get("x", 0) for record in records]
  assert counts == [0, 0, 1, 1, 1, 2, 2, 2, 2]
  assert json.loads((tmp_path / "whole" / "summary.json").read_text())["non_finite"] == {"x": 2}
  go(tmp_path / "parts", 4)
  go(tmp_path / "parts", 9)
  assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_too_many_bad_windows_in_a_row_end_the_run(tmp_path):
  with pytest.raises(
    NonFiniteError, match="3 windows in a row, up to window 7.*\\[6\\] were renamed"
  ):
    run(tmp_path, Windows(bad=range(4, 12)), max_bad_windows=3)
  assert steps(tmp_path / CHECKPOINTS) == [3]
  spread = Windows(total=12, bad=(1, 2, 4, 5, 7, 8))
  assert run(tmp_path / "b", spread, max_bad_windows=3).skipped == 6


def go(folder, rate, every=1, keep=1, **fields):
  config = make_config(folder, max_bad_windows=3, **fields)
  config.optimizer.learning_rate = rate
  config.checkpoints.every, config.checkpoints.keep = every, keep
  return train(config, make_parts(config))


@pytest.mark.parametrize(("every", "keep"), [(1, 1), (3, 2)])
def test_after_a_divergence_the_advice_works_on_the_same_folder(tmp_path, every, keep):
  go(tmp_path, 0.02, every, keep, max_windows=6)
  with pytest.raises(
    NonFiniteError, match="(?s)not finite.* resumes from [56].*--resume=.*=1e\\+19\n"
  ):
    go(tmp_path, 1e20, every, keep)
  for step in steps(tmp_path / CHECKPOINTS):  # nothing that has exploded is left
    trees = Learner(make_parts(make_config(tmp_path))).trees()
    arrays = flatten(checkpoint_files.read(tmp_path / CHECKPOINTS, step, trees).trees)
    assert max(np.abs(array).max() for array in arrays.values() if array.dtype.kind == "f") < 1e3
  start = steps(tmp_path / CHECKPOINTS)[-1]
  summary = go(tmp_path, 0.01, every, keep)
  assert summary.finished and summary.windows == 12
  records = run_files.read_lines(tmp_path / run_files.METRICS).records
  assert [r["window"] for r in records] == list(range(1, 13))
  changed = {r["window"]: r["changed"] for r in records if "changed" in r}
  assert changed == {start + 1: {"optimizer.learning_rate": "0.02 -> 0.01"}}


def test_a_run_that_diverged_at_once_starts_again_in_the_same_folder(tmp_path):
  with pytest.raises(NonFiniteError, match="starts again from the first window"):
    go(tmp_path / "a", 1e20, keep=2)
  assert steps(tmp_path / "a" / CHECKPOINTS) == []
  go(tmp_path / "a", 0.02)
  go(tmp_path / "b", 0.02)
  assert_same_run(tmp_path / "a", tmp_path / "b")


def test_baselines_are_scored_beside_the_model(tmp_path):
  baselines = lambda window: {"x@1": {"extrap": np.full((4, 1), 0.25)}, "y@1": {}}  # noqa: E731
  run(tmp_path, baselines=Beside(baselines), max_windows=2)
  records = run_files.read_lines(tmp_path / run_files.METRICS).records
  assert records[0]["scores"]["x@1"]["extrap"] == 0.25
  assert set(records[0]["scores"]) == {"x@1"}


def test_strips_are_kept_of_every_nth_window(tmp_path):
  config = make_config(tmp_path)
  config.logging.strips_every = 5
  train(config, make_parts(config))
  found = run_files.find_strips(tmp_path)
  assert [(s.number, len(s.paths)) for s in found] == [(5, 2), (10, 2)]
  # Two windows of four ticks, put together; the first tick is that before the first target.
  strip = run_files.read_strip(found[0].paths)
  np.testing.assert_allclose(strip["timestamp_s"], np.arange(12, 21) / 25)
  assert strip["x"].shape == (9, 3) and strip["x@1"].shape == (8, 3)
  error = np.mean(np.square(strip["x@1"] - strip["x"][1:]), -1)
  np.testing.assert_allclose(strip["x@1/model"], error, rtol=1e-5)


def test_strips_can_be_left_out_or_be_of_one_window(tmp_path):
  for every, numbers in ((0, []), (1, [1, 2])):
    config = make_config(tmp_path / str(every), max_windows=2)
    config.logging.strips_every = every
    train(config, make_parts(config))
    assert [s.number for s in run_files.find_strips(tmp_path / str(every))] == numbers


def test_the_end_shows_the_last_quarter_and_writes_the_report(tmp_path, capsys):
  config = make_config(tmp_path)
  config.logging.use_report = config.logging.use_tensorboard = True
  train(config, make_parts(config))
  out = capsys.readouterr().out
  assert "Over the last quarter" in out and f"Report: {tmp_path / 'report.html'}" in out
  assert (tmp_path / "report.html").exists() and any((tmp_path / "tensorboard").iterdir())
  written = json.loads((tmp_path / "summary.json").read_text())
  assert written["last_quarter"]["x@1"]["count"] == 12


def test_another_config_is_refused_key_by_key(tmp_path):
  run(tmp_path, max_windows=3)
  with pytest.raises(CheckpointError, match=r"\(seed: 0 -> 7\).*another --config.run_dir"):
    run(tmp_path, seed=7)


def test_two_devices_equal_one(tmp_path):
  assert len(jax.devices()) == 2
  run(tmp_path / "two", num_rows=2, max_windows=6)
  run(tmp_path / "one", num_rows=2, max_windows=6, mesh=MeshConfig(data=1))
  two, one = (
    run_files.read_lines(tmp_path / n / run_files.METRICS).records for n in ("two", "one")
  )
  np.testing.assert_allclose([r["loss"] for r in two], [r["loss"] for r in one], rtol=1e-5)
