"""The script turns a config's stream into shards that a run can learn from."""

import pathlib
import subprocess
import sys

import commands
import pytest

import perceiver_stream
from perceiver_stream import streams
from perceiver_stream.inference import cli
from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.streams import shards

ROOT = pathlib.Path(__file__).resolve().parents[2]


def make_shards(*args):
  command = [sys.executable, str(ROOT / "scripts" / "make_shards.py"), *args]
  return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_it_writes_what_the_flags_say(tmp_path):
  args = ("--config=configs/synthetic.py:nano", "--config.stream.max_ticks=12")
  args += (f"--output={tmp_path / 'a'}", "--parts=2", "--shard_ticks=8")
  done = make_shards(*args)
  assert done.returncode == 0, done.stderr
  assert "24 ticks (1 s) of audio, depth, flow, pixels, segmentation in 4 shards" in done.stdout
  assert [
    len(list(row)) for row in streams.open_rows(shards.Config(path=str(tmp_path / "a")), 2)
  ] == [12, 12]
  model = perceiver_stream.build("stream_perceiver/nano")
  found = cli.stream_for(Loaded(model, {}, None, "a model"), str(tmp_path / "a"))
  assert found == shards.Config(path=str(tmp_path / "a"))  # scripts read them where they read video


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (("--config=synthetic:nano",), "the following arguments are required: --output"),
    (("--output={}",), "the following arguments are required: --config"),
    (("--config=online:nano", "--output={}", "--config.stream.path=gone"), "no file"),
    (("--config=online:nano", "--output={}", "--parts=two"), "--parts: invalid int value: 'two'"),
    (("--config=online:nano", "--output={}", "here"), "'here' is not an option"),
  ],
)
def test_what_is_wrong_is_one_message(args, message, tmp_path, monkeypatch, capsys):
  with pytest.raises(SystemExit) as stop:
    commands.call(monkeypatch, "make_shards", *(arg.format(tmp_path / "a") for arg in args))
  assert message in f"{stop.value}{capsys.readouterr().err}" and not (tmp_path / "a").exists()
