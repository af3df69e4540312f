import json

import fake_runs
import numpy as np
import pytest

from perceiver_stream.reporting import runs


@pytest.fixture
def folder(tmp_path):
  return fake_runs.make(tmp_path / "run")


def test_the_last_quarter_is_averaged_and_gains_are_above_zero_where_the_model_is_better(folder):
  scores = runs.summarise(folder)["scores"]
  assert list(scores) == ["pixels@1", "pixels@4", "audio@1", "audio@4"]
  gain = 2 * np.mean(np.arange(31, 41)) / 40
  far = scores["pixels@4"]
  assert far["metric"] == "PSNR, dB" and far["count"] == 10 * fake_runs.HOP
  assert far["copy"] == pytest.approx(26) and far["model"] == pytest.approx(26 + gain)
  assert far["gain_over_copy"] == pytest.approx(gain)
  assert far["gain_over_mix"] == pytest.approx(gain - 1.5)
  assert far["first_gain_over_copy"] == pytest.approx(2 * np.mean(np.arange(1, 11)) / 40)
  sound = scores["audio@4"]
  assert not sound["higher_is_better"] and sound["metric"] == "log-spectral distance, dB"
  assert sound["gain_over_copy"] == pytest.approx(gain)  # a smaller error is a gain


def test_the_summary_is_json_and_says_how_the_run_went(folder):
  summary = runs.summarise(folder)
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary
  assert summary["windows"] == 40 and summary["ticks"] == 160 and summary["skipped"] == 0
  assert summary["frames_per_s"] == 12.5 and summary["wait_share"] == 0.034


def test_windows_count_by_their_targets():
  series = runs.Series(
    "pixels", 1, "PSNR, dB", True, np.arange(3.0), np.asarray([1.0, 3.0, 5.0]),
    {"model": np.asarray([10.0, 20.0, np.nan]), "copy": np.asarray([np.nan] * 3)},
  )  # fmt: skip
  everywhere = np.ones(3, bool)
  assert series.mean("model", everywhere) == pytest.approx(17.5)
  assert series.mean("copy", everywhere) is None and series.mean("mix", everywhere) is None
  assert series.gain("copy", everywhere) is None
  assert series.mean("model", ~everywhere) is None


def test_a_line_cut_short_and_other_rubbish_are_passed_over(folder):
  whole = runs.summarise(folder)
  with (folder / "metrics.jsonl").open("a") as file:
    file.write('[1]\n{"window": 41, "ti')
  run = runs.read_run(folder)
  assert len(run.lines) == 40 and run.num_broken == 2
  assert runs.summarise_run(run) == whole


def test_windows_without_a_target_are_gaps(folder):
  empty = fake_runs.line(41)
  empty["scores"]["pixels@1"] = {"count": 0, "model": None, "model_psnr": None, "copy": None}
  empty["loss"] = None
  with (folder / "metrics.jsonl").open("a") as file:
    file.write(json.dumps(empty) + "\n")
  run = runs.read_run(folder)
  values = run.series()[0].values
  assert np.isnan(values["model"][-1]) and np.isnan(values["mix"][-1])
  assert np.isfinite(runs.summarise(folder)["scores"]["pixels@1"]["model"])
  assert len(run.column("loss")) == 40


@pytest.mark.parametrize(
  "missing", ["config.json", "summary.json", "metrics.jsonl", "timing.jsonl"]
)
def test_any_file_may_be_missing_or_rubbish(folder, missing):
  for content in (None, "", "{", "[]"):
    (folder / missing).unlink() if content is None else (folder / missing).write_text(content)
    summary = runs.summarise(folder)
    assert (summary["scores"] == {}) == (missing == "metrics.jsonl")


def test_an_empty_folder_is_a_run_that_has_not_begun(tmp_path):
  summary = runs.summarise(tmp_path)
  assert summary["scores"] == {} and summary["loss"] is None and summary["windows"] == 0


def test_no_folder_is_an_error_that_says_so(tmp_path):
  with pytest.raises(FileNotFoundError, match="there is no such folder; name the run_dir"):
    runs.read_run(tmp_path / "nowhere")


def test_modalities_come_from_the_config_and_only_ours_are_made(folder):
  run = runs.read_run(folder)
  assert {n: m.metric_name for n, m in run.modalities().items()} == {
    "pixels": "mse",
    "audio": "lsd",
  }
  parts = run.config["model"]["modalities"]
  parts["odd"] = {"_type": "os.system", "command": "true"}
  parts["pixels"]["no_such_field"] = 1
  parts["text"] = "not a config"
  assert list(run.modalities()) == ["audio"]
  run.config["model"] = "stream_perceiver/tiny"
  assert set(run.modalities()) == {"pixels", "audio"}
  run.config["model"] = "no_such/model"
  assert run.modalities() == {}


def test_timing_is_placed_by_its_window(folder):
  np.testing.assert_allclose(
    runs.read_run(folder).column("frames_per_s", "timing"), [[20 * fake_runs.HOP, 11.0]]
  )
