import contextlib
import json
import math
import os
import struct

import numpy as np
import pytest

from perceiver_stream.reporting import run_files, strips
from perceiver_stream.reporting.progress import Display, Screen, describe, eta, last_quarter
from perceiver_stream.reporting.run_files import JsonLines, find_strips, read_lines, read_strip
from perceiver_stream.reporting.scores import RunningScores, psnr, window_scores
from perceiver_stream.reporting.tensorboard import TensorBoard
from perceiver_stream.training.config import LogConfig


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
  file.append({"window": 99})
  file.close()
  assert [r["window"] for r in read_lines(path).records] == [*range(keep), 99]
  assert file.num_lines == keep + 1


def test_a_line_cut_short_is_dropped(tmp_path):
  path = write(tmp_path / "a", 2)
  with path.open("ab") as file:
    file.write(b'{"wind')
  assert len(read_lines(path).records) == 2
  file = JsonLines(path, run_files.lines_until(path, 1))
  file.append({"window": 2})
  file.close()
  assert [r["window"] for r in read_lines(path).records] == [0, 1, 2]


def test_a_log_that_lost_lines_is_refused(tmp_path):
  path = write(tmp_path / "a", 2)
  with pytest.raises(ValueError, match="has 2 lines, but the checkpoint needs 3"):
    JsonLines(path, 3)


def test_not_a_number_never_enters_the_log(tmp_path):
  file = JsonLines(tmp_path / "a")
  with pytest.raises(ValueError):
    file.append({"loss": math.nan})
  file.close()
  assert read_lines(tmp_path / "a").records == []


@pytest.mark.parametrize(
  ("content", "count"),
  [
    (None, 0),
    ('{"window": 20}\n{"window": 40}\n{"window": 60}\n', 2),
    ('{"window": 20}\n{"window": 40}', 1),
    ('{"window": 60}\n{"window": 20}\n', 0),
    ('[1]\n{"window": 20}\n', 0),
    ('{"window": "x"}\n', 0),
    ("[" * 100_000 + "\n", 0),
  ],
)
def test_lines_of_later_windows_and_damaged_ones_do_not_count(tmp_path, content, count):
  if content is not None:
    (tmp_path / "a").write_text(content)
  assert run_files.lines_until(tmp_path / "a", 40) == count


def events(folder):
  """Returns the events of all files in a folder, their checksums compared."""
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.record_writer import masked_crc32c

  found = []
  for path in sorted(folder.glob("*tfevents*")):
    data = memoryview(path.read_bytes())
    while data:
      size, crc = struct.unpack_from("<QI", data)
      assert crc == masked_crc32c(bytes(data[:8]))
      content = bytes(data[12 : 12 + size])
      assert masked_crc32c(content) == struct.unpack_from("<I", data, 12 + size)[0]
      found.append(Event.FromString(content))
      data = data[16 + size :]
  return found


def test_tensorboard_gets_every_number_and_picture_at_once(tmp_path):
  with contextlib.closing(TensorBoard(tmp_path, 0)) as board:
    board.add(1, {"loss": 0.5, "name": "x", "scores": {"pixels@4": {"model": 2.0, "copy": None}}})
    board.add_image(2, "overlay", np.full((3, 5, 3), 7, np.uint8))
    start, numbers, picture = events(tmp_path)  # nothing waits to be written
  assert start.file_version == "brain.Event:2"
  values = {value.tag: value.simple_value for value in numbers.summary.value}
  assert numbers.step == 1 and values == {"loss": 0.5, "scores/pixels_4/model": 2.0}
  (value,) = picture.summary.value
  assert (picture.step, value.tag, value.image.height, value.image.width) == (2, "overlay", 3, 5)
  assert value.image.encoded_image_string.startswith(b"\x89PNG")


def test_tensorboard_is_told_from_where_on_a_resumed_run_replaces_what_it_had_written(tmp_path):
  for first, last in ((0, 5), (3, 6)):  # killed after 5, resumed from 3
    with contextlib.closing(TensorBoard(tmp_path, first)) as board:
      for step in range(first + 1, last + 1):
        board.add(step, {"loss": first})
  found = events(tmp_path)
  (at,) = [i for i, event in enumerate(found) if event.HasField("session_log")]
  assert found[at].step == 4 and found[at].session_log.status == found[at].session_log.START
  assert [event.step for event in found[:at]] == [0, 1, 2, 3, 4, 5, 0]
  assert [event.step for event in found[at + 1 :]] == [4, 5, 6]


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


@pytest.mark.parametrize("sign", [{"finite": False}, {"finite": True, "model": None}])
def test_windows_that_are_not_finite_count_as_worse_than_any(sign):
  good, kept = {"x@1": {"count": 1, "model": 1.0, "copy": 2.0}}, []
  running = RunningScores()
  bad = {"x@1": {"count": 1, "model": sign.get("model", 1.0), "copy": 2.0}}
  for _ in range(4):
    running.add(good)
    kept.append(running.total())
  for _ in range(4):
    running.add(bad, finite=sign["finite"])
    kept.append(running.total())
  assert kept[:4] == pytest.approx([kept[0]] * 4) and kept[4:] == sorted(kept[4:], reverse=True)
  assert kept[4] < kept[3] - 1
  again = RunningScores(running.means, running.not_finite)
  for _ in range(400):  # a run that has recovered is the best again
    again.add(good)
  assert again.total() > kept[0] - 0.1
  running.add({"x@1": {"count": 0, "model": None, "copy": None}})
  assert running.not_finite < again.not_finite + 1


def test_gain_of_pictures_is_a_difference_of_psnr():
  running = RunningScores()
  row = {"count": 1, "model": 0.01, "copy": 0.02, "model_psnr": 20.0, "copy_psnr": 18.5}
  running.add({"pixels@4": row, "audio@4": {"count": 1, "model": 5.0, "copy": 5.0}})
  assert running.gain("pixels@4") == pytest.approx(1.5)
  assert running.total() == pytest.approx(0.75)
  text = describe(running, {"frames_per_s": 12.34})
  assert text == (
    "12.3 frames/s  pixels@4 20 dB (+1.50)  audio@4 5 (+0.00)  "
    "(in brackets: dB better than copy-last)"
  )


def full_running():
  """Running scores of two outputs at three displacements, as long as they get."""
  row = {"count": 1, "model": 0.01, "copy": 0.02, "model_psnr": 22.754, "copy_psnr": 20.954}
  sound = {"count": 1, "model": 9.3142, "copy": 11.75}
  running = RunningScores()
  running.add({f"{n}@{d}": x for n, x in (("pixels", row), ("audio", sound)) for d in (1, 4, 16)})
  return running


def test_small_scores_keep_four_digits():
  row = {"model": 0.00012341, "zero_flow": 0.0}
  text = describe(RunningScores({"flow@1": row}), {})
  assert text.startswith("flow@1 0.0001234 (") and text.endswith("dB better than zero flow)")
  more = {"gain_over_zero_flow": -1.0, "metric": "error"}
  assert "model 0.0001234, zero flow 0  (error)" in last_quarter({"flow@1": row | more})


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


@pytest.mark.parametrize("total", [None, 123456])
def test_the_bar_is_readable_at_80_columns(total):
  import io

  screen = Screen(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
  display = Display(total, 0, 20, screen)
  display.update(12345, full_running(), {"frames_per_s": 1234.56})
  shown = screen.render_lines(display._bar.get_renderable(), pad=False)
  display.close()
  lines = ["".join(segment.text for segment in line) for line in shown]
  assert all(len(line) <= 80 for line in lines) and "…" not in "".join(lines)
  window = "window 12345/123456  " if total else "window 12345  "
  assert f"{window}1234.6 frames/s" in lines[0] and ("left" in lines[0]) == bool(total)
  assert [line.rstrip() for line in lines[1:]] == [
    "pixels@1 22.75 dB (+1.80)  @4 22.75 dB (+1.80)  @16 22.75 dB (+1.80)",
    "audio@1 9.314 (+1.01)  @4 9.314 (+1.01)  @16 9.314 (+1.01)",
    "(in brackets: dB better than copy-last)",
  ]


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


@pytest.mark.parametrize("first", [0, 17, 40, 99])
def test_strips_depend_on_the_number_of_windows_alone(tmp_path, first):
  """A run that was killed at window 100 and resumed from an earlier one has the same."""
  piece = strips.WindowRecord({"x": np.zeros((3, 1, 2))}, {"x@1": np.zeros((2, 1, 2))}, {})
  names = lambda: sorted(path.name for path in (tmp_path / "strips").iterdir())  # noqa: E731
  keeper = strips.StripRecorder(tmp_path, 5, 2)
  for number in range(1, 101):
    keeper.add(number, piece)
  whole = names()
  again = strips.StripRecorder(tmp_path, 5, 2, first)
  assert all(int(name[9:17]) <= first for name in names())
  for number in range(first + 1, 101):
    again.add(number, piece)
  assert names() == whole


def test_windows_that_do_not_join_are_strips_of_one(tmp_path):
  keeper = strips.StripRecorder(tmp_path, every=4, hop=2)
  for number in range(1, 5):  # a prediction of the last tick alone
    keeper.add(number, strips.WindowRecord({"x": np.zeros((3, 1))}, {"x@1": np.zeros((1, 1))}, {}))
  (strip,) = find_strips(tmp_path)
  assert len(strip.paths) == 1 and read_strip(strip.paths)["x"].shape == (3,)


def test_a_long_run_keeps_a_bounded_number_of_strips_from_all_its_life(tmp_path):
  keeper = strips.StripRecorder(tmp_path, every=1, hop=2)
  piece = strips.WindowRecord({"x": np.zeros((3, 1, 2))}, {"x@1": np.zeros((2, 1, 2))}, {})
  for number in range(1, 101):
    keeper.add(number, piece)
    kept = [strip.number for strip in find_strips(tmp_path)]
    assert len(kept) <= strips.MAX_STRIPS and kept[-1] == number
  assert kept[0] < 50


def test_time_left_is_unknown_for_an_endless_stream():
  assert eta(3, None, {"windows_per_s": 1.0}) == eta(3, 9, {}) == ""
