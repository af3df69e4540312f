"""The scripts on every family of the zoo, not on ours alone."""

import importlib.util
import json
import pathlib
import sys

import av
import numpy as np
import pytest

from perceiver_stream import inference, training
from perceiver_stream.reporting.video_writer import VideoWriter

ROOT = pathlib.Path(__file__).parents[2]
TICKS = 10
SHOWN = {  # what predict.py does without being told how far ahead
  "moog/nano": "silent, 1 ticks ahead",
  "rvm/nano": "silent, 4 ticks ahead",
  "perceiver_flow/nano": "silent, 0 ticks ahead",
  "perceiver_autoencoder/nano": "with sound, 0 ticks ahead",
}
SCORED = {
  "moog": ("pixels@1", "copy"),
  "rvm": ("pixels@1", "same_place"),
  "flow": ("flow@0", "zero_flow"),
  "autoencoder": ("audio@0", "nothing"),
}


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
  path = tmp_path_factory.mktemp("movie") / "a.mp4"
  with VideoWriter(path, rate_hz=25, audio_rate_hz=16000, min_side=1) as writer:
    for i in range(TICKS):
      writer.write_frame(np.full((32, 32, 3), 20 * i, np.uint8))
    writer.write_sound(0.3 * np.sin(np.arange(TICKS * 640) / 9, dtype=np.float32))
  return path


@pytest.fixture
def run(monkeypatch, capsys):
  """Runs a script here, with arguments, and returns what it prints."""

  def call(name, *args):
    path = ROOT / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [path.name, *map(str, args)])
    module.main()
    return capsys.readouterr().out

  return call


@pytest.mark.parametrize("name", SHOWN)
def test_predict_shows_what_a_family_predicts(run, movie, tmp_path, name):
  out = run("predict", name, movie, f"--output={tmp_path / 'b.mp4'}")
  assert f"{TICKS} frames, {SHOWN[name]}" in out
  with av.open(str(tmp_path / "b.mp4")) as file:
    assert len(list(file.decode(video=0))) == TICKS


@pytest.mark.parametrize("name", [*SHOWN, "perceiver_classifier/nano"])
def test_extract_latents_of_every_family(run, movie, tmp_path, name):
  out = run("extract_latents", name, movie, f"--output={tmp_path}")
  assert out == f"{tmp_path}: {TICKS} ticks in 1 shards.\n"
  (shard,) = inference.read_shards(tmp_path)
  assert shard["latents"].shape[:2] == (TICKS, 1) and np.isfinite(shard["latents"]).all()


def test_what_has_no_picture_or_no_labels_is_told(run, movie, tmp_path):
  with pytest.raises(SystemExit, match=r"the model predicts \['label'\], no image"):
    run("predict", "perceiver_classifier/nano", movie, f"--output={tmp_path / 'b.mp4'}")
  with pytest.raises(SystemExit, match=r"Flow needs \['flow'\], but the stream gives"):
    run("evaluate", "perceiver_flow/nano", f"--path={movie}")


@pytest.mark.slow  # training alone is tested with the configs
@pytest.mark.parametrize("config", SCORED)
def test_a_run_is_evaluated_and_reported_with_its_own_baseline(run, tmp_path, config):
  experiment = training.load_config(f"{config}:nano")
  experiment.run_dir, experiment.max_windows = str(tmp_path / "run"), 4
  experiment.logging.use_tensorboard, experiment.logging.strips_every = False, 2
  training.train(experiment)
  key, baseline = SCORED[config]
  out = run("evaluate", tmp_path / "run", "--max_windows=2", f"--output={tmp_path / 'a.json'}")
  assert f"| {key}" in out and baseline in out
  assert json.loads((tmp_path / "a.json").read_text())[key][baseline] > 0
  run("report", tmp_path / "run")
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Learning curves" in page
  assert ("no prediction that can be shown" in page) == (config in ("rvm", "flow"))  # not in order
  if config == "flow":
    assert "zero flow" in page and "end-point error, px" in page
