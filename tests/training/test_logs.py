import json
import math
import os

import numpy as np
import pytest

from perceiver_stream.training import logs, strips
from perceiver_stream.training.logs import JsonLines, LogConfig, read_lines
from perceiver_stream.training.progress import Display, Screen, describe, eta
from perceiver_stream.training.scores import RunningScores, psnr, window_scores


def write(path, n):
  file = JsonLines(path)
  for i in range(n):
    file.append({"window": i})
  file.close()
  return path


@pytest.mark.parametrize("keep", [0, 1, 3, 5])
def test_lines_are_cut_back_to_what_is_known(tmp_path, keep):
  path = write(tmp_path / "a", 5)
  file = JsonLines(path, keep)
  file.append({"window": "new"})
  file.close()
  assert [r["window"] for r in read_lines(path)] == [*range(keep), "new"]
  assert file.num_lines == keep + 1


def test_a_line_cut_short_is_dropped(tmp_path):
  path = write(tmp_path / "a", 2)
  with path.open("ab") as file:
    file.write(b'{"wind')
  assert len(read_lines(path)) == 2
  file = JsonLines(path, None)
  file.append({"window": 2})
  file.close()
  assert [r["window"] for r in read_lines(path)] == [0, 1, 2]


def test_a_log_that_lost_lines_is_refused(tmp_path):
  path = write(tmp_path / "a", 2)
  with pytest.raises(ValueError, match="has 2 lines where the checkpoint knows of 3"):
    JsonLines(path, 3)


def test_not_a_number_never_enters_the_log(tmp_path):
  file = JsonLines(tmp_path / "a")
  with pytest.raises(ValueError):
    file.append({"loss": math.nan})
  file.close()
  assert read_lines(tmp_path / "a") == []


def test_tensorboard_gets_every_number(tmp_path):
  board = logs.TensorBoard(tmp_path, 0)
  board.add(1, {"loss": 0.5, "name": "x", "scores": {"pixels@4": {"model": 2.0, "copy": None}}})
  board.close()
  data = b"".join(p.read_bytes() for p in tmp_path.iterdir())
  assert b"scores/pixels_4/model" in data and b"loss" in data and b"copy" not in data


@pytest.mark.parametrize("fields", [{"print_every": 0}, {"strips_every": -1}])
def test_wrong_settings_are_named(fields):
  with pytest.raises(ValueError, match="logging: print_every="):
    LogConfig(**fields).validate()


def test_psnr_against_the_definition_and_its_ceiling():
  rng = np.random.default_rng(0)
  mse = rng.uniform(1e-5, 1, 20)
  np.testing.assert_allclose(psnr(mse), 20 * np.log10(1 / np.sqrt(mse)))
  assert psnr(np.zeros(1))[0] == 60


def test_scores_are_means_over_valid_targets_only():
  error = np.array([[0.1], [0.01], [np.nan]])
  valid = np.array([[True], [True], [False]])
  errors = {
    "pixels@1": {"model": error, "copy": error * 10, "valid": valid},
    "audio@1": {"model": error, "valid": valid},
    "depth@4": {"model": error, "valid": np.zeros_like(valid)},
  }
  scores = window_scores(errors, {"pixels": "mse", "audio": "lsd", "depth": "mse"})
  assert scores["pixels@1"]["count"] == 2
  assert scores["pixels@1"]["model"] == pytest.approx(0.055)
  assert scores["pixels@1"]["model_psnr"] == pytest.approx(15)  # mean of 10 and 20 dB
  assert scores["pixels@1"]["copy_psnr"] == pytest.approx(5)
  assert "model_psnr" not in scores["audio@1"]
  assert scores["depth@4"] == {"count": 0, "model": None}
  json.dumps(scores, allow_nan=False)


def test_running_scores_fade_pass_over_gaps_and_round_trip():
  running = RunningScores()
  assert running.total() < -1e6
  running.add({"audio@1": {"count": 1, "model": 1.0, "copy": 10.0}})
  running.add({"audio@1": {"count": 0, "model": None, "copy": None}})
  assert running.gain("audio@1") == pytest.approx(10)
  again = RunningScores(json.loads(json.dumps(running.means)))
  for each in (running, again):
    each.add({"audio@1": {"count": 1, "model": 2.0, "copy": 10.0}})
  assert running.means == again.means
  assert running.means["audio@1"]["model"] == pytest.approx(0.98 + 0.02 * 2)
  assert running.gain("nothing@1") is None


def test_gain_of_pictures_is_a_difference_of_psnr():
  running = RunningScores()
  row = {"count": 1, "model": 0.01, "copy": 0.02, "model_psnr": 20.0, "copy_psnr": 18.5}
  running.add({"pixels@4": row, "audio@4": {"count": 1, "model": 5.0, "copy": 5.0}})
  assert running.gain("pixels@4") == pytest.approx(1.5)
  assert running.total() == pytest.approx(0.75)
  text = describe(running, {"frames_per_s": 12.34})
  assert text.startswith("12.3 frames/s  pixels@4 20 dB (+1.50 on copy)  audio@4 5 (+0.00")


def test_plain_lines_where_there_is_no_terminal(capsys):
  display = Display(40, 0, 20)
  for window in range(1, 41):
    display.update(window, RunningScores(), {"windows_per_s": 0.5, "frames_per_s": 4.0})
  display.say("[done] 1/2")
  display.close()
  out = capsys.readouterr().out.splitlines()
  assert out == [
    "window 20/40  4.0 frames/s  0:40 left",
    "window 40/40  4.0 frames/s  0:00 left",
    "[done] 1/2",
  ]


def test_a_bar_on_a_terminal():
  import io

  screen = io.StringIO()
  display = Display(4, 1, 20, Screen(file=screen, force_terminal=True, width=120))
  display.update(3, RunningScores(), {"frames_per_s": 7.0})
  display.close()
  assert "3/4" in screen.getvalue() and "7.0 frames/s" in screen.getvalue()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nobody_reading_is_no_reason_to_stop(is_terminal):
  reader, writer = os.pipe()
  with open(writer, "w", buffering=1) as pipe:
    os.close(reader)
    display = Display(9, 0, 1, Screen(file=pipe, force_terminal=is_terminal))
    for window in range(1, 4):
      display.update(window, RunningScores(), {"frames_per_s": 7.0})
      display.say("still here")
    display.close()
    assert display.console.quiet


def test_a_long_run_keeps_a_bounded_number_of_strips_from_all_its_life(tmp_path):
  keeper = strips.Strips(tmp_path, every=1, hop=2)
  piece = strips.Piece({"x": np.zeros((3, 1, 2))}, {"x@1": np.zeros((2, 1, 2))}, {})
  for number in range(1, 101):
    keeper.add(number, piece)
    kept = sorted(int(p.stem) for p in (tmp_path / "strips").iterdir())
    assert len(kept) <= strips.MAX_STRIPS and kept[-1] == number
  assert kept[0] < 50


def test_time_left_is_unknown_for_an_endless_stream():
  assert eta(3, None, {"windows_per_s": 1.0}) == eta(3, 9, {}) == ""
