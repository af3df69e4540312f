"""The table and the curves of runs."""

import importlib.util
import json
import pathlib

import pytest

import perceiver_stream
from perceiver_stream import training
from perceiver_stream.streams import synthetic

FILE = pathlib.Path(__file__).parents[2] / "benchmarks" / "learning.py"


@pytest.fixture(scope="module")
def learning():
  spec = importlib.util.spec_from_file_location("learning", FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def write(folder, key, baseline):
  folder.mkdir()
  with (folder / "metrics.jsonl").open("w") as file:
    for i in range(1, 41):
      row = {"count": 2, "model": 4 / i, baseline: 1.0, "other": 2.0}
      file.write(json.dumps({"window": i, "ticks": 8 * i, "scores": {key: row}}) + "\n")


def test_the_table_has_the_last_quarter_beside_the_baselines(learning, tmp_path, capsys):
  write(tmp_path / "flow_tiny", "flow@0", "zero_flow")
  write(tmp_path / "moog_tiny", "pixels@1", "copy")
  runs = [str(tmp_path / "flow_tiny"), str(tmp_path / "moog_tiny")]
  learning.main([*runs, f"--output={tmp_path / 'a.png'}"])
  lines = capsys.readouterr().out.splitlines()
  mean = sum(4 / i for i in range(31, 41)) / 10
  # `other` comes first by name, so for flow the gain is over that one; for moog it is over copying
  assert lines[2].startswith(f"| flow_tiny | flow@0 | error | {mean:.4g} | zero flow 1, other 2 |")
  assert lines[2].endswith(f"| {2 - mean:+.4g} |") and lines[3].endswith(f"| {1 - mean:+.4g} |")
  assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_the_mean_of_past_pictures_is_perfect_only_where_nothing_moves(learning):
  model = perceiver_stream.config("moog/nano")
  scores = {}
  for speed in (0.0, 6.0):
    stream = synthetic.Config(height=16, width=16, speed=speed, modalities=("pixels",))
    config = training.ExperimentConfig(model=model, stream=stream)
    scores[speed] = learning.mean_of_past(config, 256)
  assert scores[0.0] == 60 and 10 < scores[6.0] < 40


def test_the_mean_of_the_past_is_one_more_line(learning, tmp_path, capsys):
  write(tmp_path / "moog_tiny", "pixels@1", "copy")
  config = training.ExperimentConfig(
    model=perceiver_stream.config("moog/nano"),
    stream=synthetic.Config(height=16, width=16, modalities=("pixels",)),
  )
  (tmp_path / "moog_tiny" / "config.json").write_text(training.to_json(config))
  learning.main([str(tmp_path / "moog_tiny"), "--mean_of_past"])
  assert "| moog_tiny | pixels | PSNR, dB | | mean of the past " in capsys.readouterr().out
