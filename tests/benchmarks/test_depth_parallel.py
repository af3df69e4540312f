"""Who overtakes whom, how late answers are judged, and the tables of finished runs; no training."""

import importlib
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  yield importlib.import_module
  for name in [path.stem for path in FOLDER.glob("*.py")]:
    sys.modules.pop(name, None)


def test_the_last_crossing_is_between_two_points(load):
  crossing = load("depth_parallel_crossover").crossing
  assert crossing([1, 2, 4, 8], [0, 10, 30, 50], [20, 20, 20, 20]) == pytest.approx(3.0)
  assert crossing([1, 2, 3, 4], [5, 1, 1, 5], [2, 2, 2, 2]) == pytest.approx(3.25)
  assert crossing([1, 2], [1, 2], [3, 3]) is None
  assert crossing([1, 2], [4, 5], [3, 3]) is None


def test_a_perfect_eye_is_judged_by_its_age(load):
  crossover, streaming = (
    load("depth_parallel_crossover"),
    load("depth_parallel_crossover").streaming,
  )
  cells = np.arange(40)[:, None] % 12 * 12  # one pixel down a tick
  eye = lambda frame: crossover.marked(cells[frame])  # noqa: E731
  # half a frame's time: seen at the next frame, one pixel off; the first frame has no answer
  assert crossover.simulated(eye, 0.5, cells) == pytest.approx(100 * 39 / 40)
  # two frames' time: two and three pixels off
  assert crossover.simulated(eye, 2.0, cells) == 0
  ahead = lambda frame: crossover.marked(cells[(frame + 2) % 40])  # noqa: E731
  assert crossover.simulated(ahead, 2.0, cells) > 90
  nothing = streaming.Outputs(np.array([0]), np.array([99.0]), [eye(0)])
  assert crossover.judged(nothing, cells, 1) == 0
  assert crossover.held(cells) == pytest.approx(100 * 11 / 40)


def test_a_lesson_is_about_the_middle_of_the_time_for_which_its_answer_is_shown(load, monkeypatch):
  crossover = load("depth_parallel_crossover")

  def blobs(key, ticks, speed):
    return np.arange(float(ticks)), np.arange(ticks)

  monkeypatch.setattr(crossover.tasks, "blobs", blobs)
  monkeypatch.setattr(jax.random, "randint", lambda key, shape, low, high: high - 1)
  for pace, ahead in ((1, 1), (2, 2), (3, 4), (6, 8)):
    frames, cells = crossover.lesson(pace, jax.random.key(0))
    assert np.all(np.diff(frames) == pace)
    assert np.all(cells - frames.astype(int) == ahead)
    assert int(cells[-1]) < pace * crossover.TICKS + pace // 2 + 1


def write_run(folder, gain):
  """Writes what is read of a finished run, so many dB better than copying."""
  folder.mkdir(parents=True)
  (folder / "summary.json").write_text(json.dumps({"finished": True}))
  scores = {"count": 8, "model_psnr": 20.0 + gain, "copy_psnr": 20.0}
  row = {"scores": {"pixels@1": scores, "pixels@4": scores}}
  lines = [json.dumps({"window": i, "ticks": 8 * i} | row) for i in range(1, 9)]
  (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_the_best_rate_of_every_rule_is_shown_beside_copying(load, tmp_path, capsys):
  curves = load("depth_parallel_curves")
  for number, execution in enumerate(curves.EXECUTIONS):
    for gain, rate in zip((-10.0, float(number), 0.0), curves.RATES, strict=True):
      write_run(tmp_path / "depth_parallel_curves" / f"{execution}_{rate:g}_8", gain)
  curves.main([f"--output={tmp_path}", "--windows=8", f"--plot={tmp_path / 'a.png'}"])
  assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
  best, tries = json.loads((tmp_path / "depth_parallel_curves.json").read_text())["tables"]
  assert [row[0] for row in best["rows"][:4]] == list(curves.RULES.values())
  ratios = [row[-1] for row in best["rows"][:4]]
  np.testing.assert_allclose(ratios, 10 ** (-np.arange(4) / 10), rtol=1e-6)
  assert {row[1] for row in best["rows"][2:4]} == {f"{curves.RATES[1]:g}"}
  np.testing.assert_allclose(tries["rows"][3][1:3], 10, rtol=1e-6)
  assert "x error of copying" in capsys.readouterr().out


def test_the_runs_differ_in_execution_and_rate_alone(load):
  curves = load("depth_parallel_curves")
  from perceiver_stream.files.codec import to_dict
  from perceiver_stream.training.config import differences

  configs = [
    to_dict(curves.experiment(e, r, 8, "x")) for e in curves.EXECUTIONS for r in (1.0, 2.0)
  ]
  differing = {line.split(":")[0] for other in configs for line in differences(configs[0], other)}
  assert differing == {"execution"}, "besides what may change on resuming"
  changed = {
    name
    for other in configs
    for name in other["optimizer"]
    if other["optimizer"][name] != configs[0]["optimizer"][name]
  }
  assert changed == {"learning_rate"}
