"""The scripts as a user runs them: errors, and one life of a run from ctrl-C to report."""

import importlib.util
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import av
import numpy as np
import pytest
from processes import xla_flags

from perceiver_stream.inference import read_shards
from perceiver_stream.reporting import images
from perceiver_stream.reporting.video_writer import VideoWriter

ROOT = pathlib.Path(__file__).parents[2]
NANO = "stream_perceiver/nano"


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
  path = tmp_path_factory.mktemp("movie") / "a.mp4"
  with VideoWriter(path, rate_hz=25, audio_rate_hz=16000, min_side=1) as writer:
    for i in range(30):
      writer.write_frame(np.full((32, 32, 3), 5 * i, np.uint8))
    writer.write_sound(0.3 * np.sin(np.arange(30 * 640) / 9, dtype=np.float32))
  return path


def load(name):
  spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def run(monkeypatch, capsys):
  """Runs a script here, with arguments, and returns what it prints."""

  def call(name, *args):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
    load(name).main()
    return capsys.readouterr().out

  return call


def test_evaluate_prints_a_table_and_writes_json(run, movie, tmp_path):
  out = run(
    "evaluate", NANO, f"--path={movie}", "--max_windows=1", f"--output={tmp_path / 'a.json'}"
  )
  assert f"{NANO}, untrained:" in out and "| pixels@16 | PSNR dB, higher is better |" in out
  scores = json.loads((tmp_path / "a.json").read_text())
  assert scores["pixels@1"]["model"] == pytest.approx(scores["pixels@1"]["copy"], rel=1e-3)
  assert {"extrap", "mix"} < set(scores["pixels@1"])


def test_numbered_images_are_one_recording(run, tmp_path):
  (tmp_path / "bear").mkdir()
  for n in range(12):
    image = images.png_bytes(np.full((32, 32, 3), 20 * n, np.uint8))
    (tmp_path / "bear" / f"{n:05d}.png").write_bytes(image)
  out = run(
    "extract_latents", NANO, f"{tmp_path / 'bear'}/*.png", f"--output={tmp_path / 'latents'}"
  )
  assert "12 ticks" in out
  firsts = [shard["is_first"] for shard in read_shards(tmp_path / "latents")]
  assert np.concatenate(firsts)[:, 0].tolist() == [True] + [False] * 11


def test_predict_writes_a_movie_with_sound(run, movie, tmp_path):
  out = run(
    "predict", NANO, movie, f"--output={tmp_path / 'b.mp4'}", "--displacement=2", "--beside"
  )
  assert "30 frames, with sound, 2 ticks ahead" in out
  with av.open(str(tmp_path / "b.mp4")) as file:
    assert file.streams.video[0].width == 2 * file.streams.video[0].height
    assert len(file.streams.audio) == 1


def test_extract_latents_writes_shards_and_is_done_the_second_time(run, movie, tmp_path):
  for _ in range(2):
    out = run("extract_latents", NANO, movie, f"--output={tmp_path}", "--shard_ticks=16")
    assert out == f"{tmp_path}: 30 ticks in 2 shards.\n"
  with np.load(tmp_path / "latents-00001.npz") as shard:
    assert shard["latents"].shape[:2] == (14, 1)


@pytest.mark.parametrize(
  "name, args, text",
  [
    ("evaluate", ["nowhere", "--path=a.mp4"], "evaluate.py: 'nowhere' is neither the folder"),
    ("evaluate", [NANO], "has no stream of its own; say which video with --path"),
    ("predict", [NANO, "gone.mp4", "--output=out.mp4"], "predict.py: .*gone.mp4"),
    ("report", ["nowhere"], "report.py: .*nowhere"),
  ],
)
def test_errors_are_one_readable_line(run, name, args, text):
  with pytest.raises(SystemExit, match=text):
    run(name, *args)


def train(*args):
  env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(1)}
  command = [sys.executable, "-u", str(ROOT / "scripts" / "train.py"), *args]
  pipe = subprocess.PIPE
  return subprocess.Popen(command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True)


def test_a_misspelt_key_is_refused_with_the_nearest():
  process = train("--config=configs/synthetic.py:nano", "--config.optimizer.learning_rat=1")
  _, error = process.communicate(timeout=120)
  assert process.returncode == 1
  assert "config.optimizer has no key 'learning_rat'. Did you mean 'learning_rate'" in error
  assert "Traceback" not in error


@pytest.mark.slow  # ctrl-C is tested in tests/training/test_loop.py
def test_a_stopped_run_says_how_to_go_on_and_goes_on(tmp_path, run):
  settings = (
    "--config=configs/synthetic.py:nano",
    "--config.model.displacements=(1,)",
    "--config.max_windows=1000000",
    "--config.logging.print_every=1",
    f"--config.run_dir={tmp_path / 'a run'}",
  )
  process = train(*settings)
  command = stop_after(process, r"window 3", "SIGTERM")
  assert str(tmp_path / "a run") in shlex.split(command)[-1]
  program, *arguments = shlex.split(command)
  assert program == "perceiver-stream" and arguments.pop(0) == "train"
  process = train(*arguments)
  stop_after(process, r"resuming from window [1-9]\d*", "SIGTERM")
  assert "report.html" in run("report", tmp_path / "a run")
  assert (tmp_path / "a run" / "report.html").stat().st_size > 10000


def stop_after(process, pattern, name):
  """Sends a signal when a line matches; returns the command printed to go on with."""
  for line in process.stdout:
    if re.search(pattern, line):
      process.send_signal(getattr(signal, name))
      break
  out, error = process.communicate(timeout=120)
  assert process.returncode == 0, error
  assert "Traceback" not in error and f"Stopped by {name}" in out, error
  return next(line.strip() for line in out.splitlines() if "--resume=" in line)
